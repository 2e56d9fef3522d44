"""The page's grid: original, start, and what one or two encoders made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.data.labelled import LabelledImages
from heirloom.data.pictures import image_uri
from heirloom.data.pixels import to_unit_range
from heirloom.features.pairing import NO_IMAGE, Pairing
from heirloom.features.saved import SavedSplit, read_split
from heirloom.features.steps import Built
from heirloom.runtime.errors import InputError, renamed

SHOWN = 12
Cell = list[str]  # [data URI, note]


def matching_split(beside: Path, pairing: Pairing) -> SavedSplit:
    """The test images of the build in ``beside``, whose pairs must be those of ``pairing``."""
    with renamed(folder="beside"):
        other = read_split(beside, "test")
    same = len(other.pixels) == len(pairing) and all(
        torch.equal(other.columns[column], getattr(pairing, column))
        for column in ("original", "start", "label")
    )
    if not same:
        raise InputError(
            "beside", "a build of the same data, variant, start and seed", f"{beside}, of other pairs"
        )
    return other


def grid_of(
    data: LabelledImages, pairing: Pairing, built: Built, names: list[str], other: SavedSplit | None = None
) -> dict[str, Any]:
    """``{"columns", "examples": [[label, [[data URI, note], ...]], ...]}`` for a few images, the classes in turn.

    Args:
        names: of what was built, and of ``other`` where it is there.
    """
    sets = [(built.pixels, built.relative_error)]
    if other is not None:
        sets.append((other.pixels, other.columns["relative_error"]))
    examples = []
    for i in spread(pairing.label):
        cells = [_source(data, int(pairing.original[i])), _source(data, int(pairing.start[i]))]
        cells += [[uri(pixels[i]), f"error {float(errors[i]):.2f}"] for pixels, errors in sets]
        examples.append([data.classes[int(pairing.label[i])], cells])
    return {"columns": ["original", "start", *names], "examples": examples}


def spread(labels: Tensor, most: int = SHOWN) -> list[int]:
    """The first images of each class in turn."""
    by_class = [(labels == label).nonzero().flatten().tolist() for label in labels.unique()]
    turns = [members[k] for k in range(most) for members in by_class if k < len(members)]
    return turns[:most]


def uri(pixels: Tensor) -> str:
    return image_uri(to_unit_range(pixels).numpy())


def _source(data: LabelledImages, index: int) -> Cell:
    if index == NO_IMAGE:
        return [uri(torch.full(data.shape, 0.5)), "no image"]
    return [uri(data.pixels.batch(torch.tensor([index]))[0]), data.classes[int(data.labels[index])]]
