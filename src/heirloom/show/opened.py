"""Saved defences with what their folders say, ready to be attacked: with the defence in front and without it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from heirloom.data.images import load_images
from heirloom.data.pictures import Picture, read_pictures
from heirloom.defence.saved import CONFIG, DefendedModel
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json
from heirloom.threat import Threat

BARE = "identity"
MOST_PICTURES = 24


@dataclass(frozen=True)
class Opened:
    """One saved defence.

    Attributes:
        name: of the folder. model: the whole with its defence. bare: the same foundation model with nothing in
            front; None behind a stand-in (``--as encoder``) whose frozen model is not within reach. bare_head: whose
            head stands behind that: ``its own`` where the folder still has the model that was measured beside the
            defence, else ``the defence's``.
        summary: what was measured; None where the folder has no summary.json.
    """

    name: str
    model: DefendedModel
    bare: nn.Module | None
    bare_head: Literal["its own", "the defence's"]
    summary: Summary | None

    @property
    def threat(self) -> Threat:
        """That it was made for; Linf 8/255 where the folder does not say."""
        return (
            Threat(**self.model.defence["threat"])
            if "threat" in self.model.defence
            else Threat("Linf", 8 / 255)
        )


@dataclass(frozen=True)
class Sample:
    """A picture to attack: float32 (C, H, W) of values that 8 bits hold, and its class where it is known."""

    name: str
    pixels: Tensor
    label: str | None


def open_folder(folder: Path, *, device: str = "cpu", trust_remote_code: bool = False) -> Opened:
    """Load what ``heirloom defend`` wrote; :class:`InputError` where it is none."""
    kind = "which is a file" if folder.is_file() else "which does not exist"
    require(folder.is_dir(), "folder", "one that heirloom defend wrote", f"{folder}, {kind}")
    model = DefendedModel.from_pretrained(folder, trust_remote_code=trust_remote_code).to(device)
    bare, whose = _bare(folder, model, trust_remote_code=trust_remote_code)
    path = folder / "summary.json"
    return Opened(
        folder.resolve().name,
        model,
        None if bare is None else bare.to(device),
        whose,
        Summary.read(path) if path.exists() else None,
    )


def _bare(
    folder: Path, model: DefendedModel, *, trust_remote_code: bool
) -> tuple[nn.Module | None, Literal["its own", "the defence's"]]:
    """The frozen model with nothing in front, and whose head is behind it."""
    measured, teacher = folder / "work" / BARE, model.defence.get("teacher")
    own = (measured / CONFIG).exists()
    if teacher is None:
        if own:
            return DefendedModel.from_pretrained(measured, encoder=model.encoder), "its own"
        return Defended(nn.Identity(), model.encoder, model.head), "the defence's"
    if not own:
        return None, "its own"
    fields = {k: v for k, v in read_json(measured / CONFIG)["encoder"].items() if k != "fingerprint"}
    settings = EncoderSettings(**{**fields, "source": teacher})
    try:
        if settings.is_factory and not trust_remote_code:
            return None, "its own"
        encoder = load_encoder(settings, trust_remote_code=trust_remote_code)
        return DefendedModel.from_pretrained(measured, encoder=encoder), "its own"
    except InputError:
        return None, "its own"


def open_folders(
    folders: Sequence[Path], *, device: str = "cpu", trust_remote_code: bool = False
) -> list[Opened]:
    """Several defences to be compared: of images of one shape, of the same classes, and made for the same norm, so that
    one radius means the same to all. Folders of one name are told apart by the folder that they lie in."""
    opened = [open_folder(folder, device=device, trust_remote_code=trust_remote_code) for folder in folders]
    first = opened[0]
    for other in opened[1:]:
        for what, a, b in (
            ("image_shape", first.model.image_shape, other.model.image_shape),
            ("classes", first.model.classes, other.model.classes),
            ("norm", first.threat.norm, other.threat.norm),
        ):
            require(a == b, "folders", f"of the same {what}", f"{other.name}, which has another")
    names = [found.name for found in opened]
    if len(set(names)) < len(names):
        names = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    require(len(set(names)) == len(names), "folders", "of different names", ", ".join(names))
    return [replace(found, name=name) for found, name in zip(opened, names, strict=True)]


def samples(opened: Opened, data: str | None = None) -> list[Sample]:
    """Test images to start from: of ``data``, or those that the folder's own page shows; maybe none."""
    shape, found = opened.model.image_shape, list[Sample]()
    if data is not None:
        arrays = data == "digits" or data.endswith(".npz")  # read as they are stored, and fitted below
        test = load_images(data, image_size=None if arrays else shape[1]).test
        few = test.select(torch.arange(min(MOST_PICTURES, len(test))))
        for number, (pixels, label) in enumerate(zip(few.images, few.labels.tolist(), strict=True)):
            pixels = eight_bit(pixels)
            if pixels.shape != shape:  # other colours or size: as an upload is read
                pixels = sample_of(Image.fromarray(as_array(pixels)), shape)
            found.append(Sample(f"{number}: {test.classes[label]}", pixels, test.classes[label]))
        return found
    shown = [] if opened.summary is None else opened.summary.details.get("defences", [])
    for number, example in enumerate(shown[-1].get("examples", []) if shown else []):
        content = base64.b64decode(example["clean"].partition(",")[2])
        pixels = sample_of(Image.open(io.BytesIO(content)), shape)
        found.append(Sample(f"{number}: {example['label']}", pixels, example["label"]))
    return found


def sample_of(picture: Picture, shape: tuple[int, int, int]) -> Tensor:
    """(C, H, W) of a file or a PIL image, as ``heirloom predict`` reads it."""
    return read_pictures([picture], shape)[0]


def eight_bit(pixels: Tensor) -> Tensor:
    """The nearest values that an 8-bit picture holds."""
    return (pixels.clamp(0, 1) * 255).round() / 255


def as_array(pixels: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 (H, W) or (H, W, C), every value as it is; :class:`InputError` where 8 bits do not hold it."""
    values = (pixels.cpu() * 255).round()
    if not torch.allclose(values / 255, pixels.cpu(), atol=1e-6):
        raise InputError("pixels", "multiples of 1/255", "others")
    array = values.to(torch.uint8).numpy()
    return array[0] if array.shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
