"""Which image's representation is put into which image, and the label that the outcome gets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.features.settings import BuildSettings
from heirloom.runtime.errors import require
from heirloom.runtime.randomness import generator_of

NO_IMAGE = -1  # a start of noise or grey


@dataclass(frozen=True)
class Pairing:
    """Entry i puts the representation of image ``original[i]`` into image ``start[i]`` (N,), which may be -1 (noise or
    grey), and is labelled ``label[i]``, the original's class. Indices are those of the split that was read."""

    original: Tensor
    start: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.label)


def pair(labels: Tensor, settings: BuildSettings, split: str) -> Pairing:
    """The pairing of a split with class indices ``labels`` (N,); the same seed gives the same one.

    Raises:
        InputError: fewer than two images, or fewer than two classes where a class is to be another one.
    """
    generator = generator_of(settings.seed, "features", settings.variant, settings.start, split)
    own = torch.arange(len(labels))
    if settings.is_targeted:
        original = _of_class(_targets(labels, settings, generator), labels, generator)
        return Pairing(original, own, labels[original])
    if settings.start in ("noise", "grey"):
        return Pairing(own, torch.full_like(own, NO_IMAGE), labels)
    if settings.start == "other":
        require(
            len(labels) >= 2, "data", "at least two images, so that one can start from another", len(labels)
        )
        order = torch.randperm(len(labels), generator=generator)
        return Pairing(own, torch.empty_like(own).index_put((order,), order.roll(1)), labels)
    if settings.start == "next-class":
        return Pairing(own, _of_class(_next(labels), labels, generator), labels)
    return Pairing(own, _of_other_classes(labels, generator), labels)


def _targets(labels: Tensor, settings: BuildSettings, generator: torch.Generator) -> Tensor:
    if settings.variant == "next-target":
        return _next(labels)
    classes = _classes(labels)
    return classes[torch.randint(len(classes), labels.shape, generator=generator)]


def _next(labels: Tensor) -> Tensor:
    """The next class that has images, after the last the first."""
    classes = _classes(labels)
    return classes[(torch.searchsorted(classes, labels) + 1) % len(classes)]


def _classes(labels: Tensor) -> Tensor:
    classes: Tensor = labels.unique()
    require(len(classes) >= 2, "data", "images of at least two classes", len(classes))
    return classes


def _of_other_classes(labels: Tensor, generator: torch.Generator) -> Tensor:
    """For each label (N,) the index of a random image of another class."""
    _classes(labels)
    order, first, counts = _by_class(labels)
    drawn = torch.rand(labels.shape, generator=generator, dtype=torch.float64)
    place = (drawn * (len(labels) - counts[labels])).long()
    return order[torch.where(place < first[labels], place, place + counts[labels])]


def _of_class(wanted: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """For each entry of ``wanted`` (N,) the index of a random image of that class."""
    order, first, counts = _by_class(labels)
    drawn = torch.rand(wanted.shape, generator=generator, dtype=torch.float64)
    return order[first[wanted] + (drawn * counts[wanted]).long()]


def _by_class(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The indices sorted by class, and of each class the place of its first one and its count."""
    counts = torch.bincount(labels)
    return labels.argsort(stable=True), counts.cumsum(0) - counts, counts
