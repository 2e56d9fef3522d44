"""What ``features build`` does from an encoder and images to a data set, summary.json and report.html."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.data.labelled import ImageSource, LabelledImages, to_unit_range
from heirloom.data.pictures import image_uri
from heirloom.features.card import write_card
from heirloom.features.pairing import Pairing, pair
from heirloom.features.saved import SavedSplit, read_split, write_split
from heirloom.features.settings import BuildSettings
from heirloom.features.steps import Built, build_batch
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import Summary
from heirloom.results.statistics import mean
from heirloom.runs import Run
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.threat import Threat

SHOWN = 12  # rows of the page's grid
Progress = Callable[[str, int, int, str], None]


def build_features(
    encoder: FrozenEncoder,
    name: str,
    data: ImageSource,
    settings: BuildSettings,
    out: Path,
    *,
    threat: Threat | None = None,
    beside: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Build the training and test images of one kind of feature in the folder ``out``.

    Args:
        name: of the kind, on card and page: ``robust``, ``non-robust``, whatever the encoder makes it.
        threat: how far the ``-target`` variants may move an image; not used by ``inverted``.
        beside: a folder built before with the same originals and starts, by another encoder: its images stand beside
            these on the page.
        resume: go on with the interrupted build in ``out``; the outcome is the same bit for bit.

    Raises:
        InputError: data that the pairing cannot be made of, a folder of other facts, a ``beside`` of other images.
    """
    if settings.is_targeted:
        require(threat is not None, "threat", "given for the random-target and next-target variants", "none")
    splits = {"train": data.train, "test": data.test}
    pairings = {split: pair(images.labels, settings, split) for split, images in splits.items()}
    other = None if beside is None else _checked(beside, pairings["test"])
    run = Run(out, _facts(encoder, data, settings, threat), resume=resume)
    encoder = encoder.to(settings.device)
    built = {
        split: build_split(
            encoder, images, pairings[split], settings, threat, split, run.path("work"), progress
        )
        for split, images in splits.items()
    }
    for split, images in splits.items():
        write_split(out, split, built[split], pairings[split], images.labels, images.classes)
    summary = run.finish(
        "features", [_row(split, made) for split, made in built.items()], seed=settings.seed, device=settings.device,
        threat=threat if settings.is_targeted else None, data=data, settings=_shown(encoder, name, data, settings, threat),
        details={"grid": _grid(data.test, pairings["test"], built["test"], name, other, beside)},
    )  # fmt: skip
    write_card(out, summary)
    _remove_work(run.path("work"))
    return summary


def build_split(
    encoder: FrozenEncoder, data: LabelledImages, pairing: Pairing, settings: BuildSettings, threat: Threat | None,
    split: str, work: Path, progress: Progress | None = None,
) -> Built:  # fmt: skip
    """All entries of ``pairing``, batch by batch; a finished batch is kept in ``work`` and not made again."""
    parts = []
    for number, rows in enumerate(torch.arange(len(pairing)).split(settings.batch_size)):
        path = work / split / f"{number:05d}.safetensors"
        if not path.exists():
            made = build_batch(encoder, data, pairing, rows, settings, threat, split)
            write_tensors(path, asdict(made))
        parts.append(read_tensors(path)[0])
        if progress is not None:
            error = float(parts[-1]["relative_error"].mean())
            progress(f"build: {split}", int(rows[-1]) + 1, len(pairing), f"relative error {error:.3f}")
    return Built(*(torch.cat([part[field.name] for part in parts]) for field in fields(Built)))


def _facts(
    encoder: FrozenEncoder, data: ImageSource, settings: BuildSettings, threat: Threat | None
) -> dict[str, Any]:
    """All that decides the pixels. The batch size is in it: a batch's noise is drawn at once."""
    deciding = {name: value for name, value in asdict(settings).items() if name != "device"}
    return {
        "encoder": encoder.fingerprint(),
        "reading": [encoder.settings.pooling, encoder.mean.flatten().tolist(), encoder.std.flatten().tolist(), encoder.size],
        "data": data_digest(data),
        "threat": None if threat is None or not settings.is_targeted else [threat.norm, threat.eps.hex()],
        **deciding,
    }  # fmt: skip


def data_digest(data: ImageSource) -> str:
    """Of pixels, labels and class names."""
    digest = hashlib.sha256()
    for part in (data.train, data.test):
        digest.update(repr((part.classes, tuple(part.pixels.shape), part.pixels.dtype)).encode())
        digest.update(part.pixels.contiguous().numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return digest.hexdigest()


def _row(split: str, built: Built) -> dict[str, Any]:
    measures = {
        field.name: mean(getattr(built, field.name)) for field in fields(Built) if field.name != "pixels"
    }
    return {"split": split, "images": len(built.pixels), **measures}


def _shown(
    encoder: FrozenEncoder, name: str, data: ImageSource, settings: BuildSettings, threat: Threat | None
) -> dict[str, Any]:
    shown = {
        "name": name, "encoder": encoder.settings.source, "data": data.name, **asdict(settings),
        "threat": str(threat) if settings.is_targeted else None,
    }  # fmt: skip
    if settings.is_targeted:
        shown |= {"start": "other", "step_rule": None}
    return shown


def _checked(beside: Path, pairing: Pairing) -> SavedSplit:
    other = read_split(beside, "test")
    same = len(other.pixels) == len(pairing) and all(
        torch.equal(other.columns[column], getattr(pairing, column))
        for column in ("original", "start", "label")
    )
    if not same:
        raise InputError(
            f"beside must be a build of the same data, variant, start and seed, but {beside} has other pairs."
        )
    return other


def _grid(
    data: LabelledImages,
    pairing: Pairing,
    built: Built,
    name: str,
    other: SavedSplit | None,
    beside: Path | None,
) -> dict[str, Any]:
    """Original, start and what was made of them, for a few test images, the classes in turn."""
    rows = _spread(pairing.label)
    columns = ["original", "start", name] + ([beside.name] if beside is not None else [])
    examples = []
    for i in rows:
        original, start = int(pairing.original[i]), int(pairing.start[i])
        cells = [
            [_uri(data.pixels[original]), data.classes[int(data.labels[original])]],
            ["", "no image"]
            if start < 0
            else [_uri(data.pixels[start]), data.classes[int(data.labels[start])]],
            [_uri(built.pixels[i]), f"error {float(built.relative_error[i]):.2f}"],
        ]
        if other is not None:
            cells.append([_uri(other.pixels[i]), f"error {float(other.columns['relative_error'][i]):.2f}"])
        examples.append([data.classes[int(pairing.label[i])], cells])
    return {"columns": columns, "examples": examples}


def _spread(labels: Tensor) -> list[int]:
    """The first images of each class in turn."""
    by_class = [(labels == label).nonzero().flatten().tolist() for label in labels.unique()]
    turns = [members[k] for k in range(SHOWN) for members in by_class if k < len(members)]
    return turns[:SHOWN]


def _uri(pixels: Tensor) -> str:
    return image_uri(to_unit_range(pixels).numpy())


def _remove_work(work: Path) -> None:
    """The batches are in the data set now."""
    for path in work.rglob("*.safetensors"):
        path.unlink()
    for folder in sorted(work.rglob("*"), reverse=True):
        folder.rmdir()
    work.rmdir()
