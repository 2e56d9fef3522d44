"""A checkpoint's image processor, read as Transformers' own class reads it."""

from __future__ import annotations

from typing import Any

import torch

from heirloom.models.image_processor import ImageProcessing, interpret
from heirloom.models.transformers.voice import quiet
from heirloom.runtime.errors import reject

OURS = "heirloom"  # in a preprocessor_config.json that :meth:`FrozenEncoder.save` wrote: nothing is left to defaults


def read_processing(
    source: str, normalisation: str, options: dict[str, Any], *, trust_remote_code: bool = False
) -> ImageProcessing | None:
    """The checkpoint's image processor, class defaults included; None where it has no file of one.

    Raises:
        InputError: fields that cannot be read, or that Transformers' own class reads otherwise.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        written, _ = ImageProcessingMixin.get_image_processor_dict(source, **options)
    except (OSError, ValueError):
        return None
    ours = written.pop(OURS, False)
    with quiet():
        official = None if ours else _official(source, options, trust_remote_code)
    if official is None:
        return interpret(written, normalisation=normalisation, official=bool(ours))
    fields = _with_defaults(written, official.to_dict())
    processing = interpret(fields, normalisation=normalisation, official=True)
    if normalisation == "auto":
        _compare(processing, official, fields)
    return processing


def _official(source: str, options: dict[str, Any], trust_remote_code: bool) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(
            source, backend="pil", trust_remote_code=trust_remote_code, **options
        )
    except Exception:  # no such class, or one that needs packages that are absent: the fields alone must do
        return None


def _with_defaults(written: dict[str, Any], official: dict[str, Any]) -> dict[str, Any]:
    """Written fields, with the class's defaults for colours, and for sizes where no size is written."""
    fields = {**official, **{k: v for k, v in written.items() if k not in official or v is None}}
    if "size" in written and "crop_size" not in written:
        fields.pop("crop_size", None)
    return {**fields, **{k: written[k] for k in ("size", "crop_size") if k in written}}


def _compare(processing: ImageProcessing, official: Any, fields: dict[str, Any]) -> None:
    """Two images of one colour each, which no resizing changes, through Transformers' class and through ours."""
    for colour in ((40, 130, 220), (200, 90, 10)):
        image = torch.tensor(colour, dtype=torch.uint8).view(1, 1, 3).repeat(64, 64, 1).numpy()
        try:
            theirs = torch.as_tensor(official(image, return_tensors="pt")["pixel_values"])[0]
        except Exception:  # sizes that its class does not take: nothing to compare with
            return
        ours = processing(torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255)[0, :, 0, 0]
        seen = theirs[:, theirs.shape[1] // 2, theirs.shape[2] // 2] if theirs.ndim == 3 else theirs[0, :3]
        if ours.shape == seen.shape and not torch.allclose(ours, seen.float(), rtol=1e-3, atol=1e-3):
            reject(
                "preprocessor_config.json",
                "one whose colours are read as Transformers reads them",
                f"{type(official).__name__}, which gives {seen.tolist()} where its fields say {ours.tolist()}",
            )
