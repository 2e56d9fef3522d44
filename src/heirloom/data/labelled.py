"""Images with labels, in memory or on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heirloom.data.batches import batches
from heirloom.data.pixels import InMemory, Pixels, digest_of, pass_size, to_unit_range
from heirloom.data.unit_images import Images, Pair, UnitImages
from heirloom.results.schema import DataUsed
from heirloom.runtime.errors import reject, require
from heirloom.runtime.identity import digest

TEST_SHARE = 0.2  # of the images, where a source has no test split of its own


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels.

    Attributes:
        pixels: (N, C, H, W), uint8 in [0, 255] or float32 in [0, 1]; kept as stored, to save memory: a tensor (which
            becomes :class:`heirloom.data.pixels.InMemory`), or files that are decoded batch by batch.
        labels: (N,) int64 class indices.
        classes: the class names, one for each index.
    """

    pixels: Pixels
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.pixels, Tensor):
            object.__setattr__(self, "pixels", InMemory(self.pixels))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images as one float32 tensor (N, C, H, W) in [0, 1]: for sets that are known to be small."""
        return to_unit_range(self.stored())

    def stored(self) -> Tensor:
        """All images as one tensor of the stored type: for sets that are known to be small."""
        pixels = self.pixels
        return pixels.tensor if isinstance(pixels, InMemory) else pixels.batch(torch.arange(len(self)))

    @property
    def pair(self) -> Pair:
        """Images and labels for what goes through them batch by batch; no float copy of the set is made."""
        if "_unit" not in self.__dict__:  # one for all who ask: it remembers its digest
            object.__setattr__(self, "_unit", UnitImages(self.pixels))
        return self.__dict__["_unit"], self.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def facts(self) -> dict[str, Any]:
        """What identifies these images in a run: digests of pixels and labels, and the class names."""
        return {
            "pixels": self._digest(),
            "labels": digest(self.labels),
            "classes": hashlib.sha256(repr(self.classes).encode()).hexdigest()[:16],
        }

    def _digest(self) -> str:
        """Of the pixels as stored, in one pass; remembered, since the pass may decode every picture."""
        if "_digest_made" not in self.__dict__:
            parts = batches(self.pixels, torch.arange(len(self)).split(pass_size(self.pixels.shape)))
            object.__setattr__(self, "_digest_made", digest_of(self.pixels.shape, self.pixels.dtype, parts))
        made: str = self.__dict__["_digest_made"]
        return made

    def select(self, indices: Tensor) -> LabelledImages:
        return replace(self, pixels=self.pixels.select(indices), labels=self.labels[indices])

    def limit(self, count: int | None, seed: int = 0) -> LabelledImages:
        """A random subset of at most ``count`` images (all of them where None)."""
        if count is None or count >= len(self):
            return self
        require(count >= 1, "limit", "at least 1", count)
        return self.select(_permutation(len(self), seed)[:count])

    def split(self, fraction: float, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
        """(the rest, a random ``fraction`` of each class): train and validation, say."""
        require(0 < fraction < 1, "validation", "between 0 and 1", fraction)
        order = _permutation(len(self), seed)
        held = torch.zeros(len(self), dtype=torch.bool)
        for label in self.labels.unique():
            members = order[self.labels[order] == label]
            held[members[: round(fraction * len(members))]] = True
        require(
            bool(held.any()) and not bool(held.all()),
            "validation",
            f"one that leaves images on both sides of {len(self)}",
            fraction,
        )
        return self.select((~held).nonzero().flatten()), self.select(held.nonzero().flatten())


ImagesAndLabels = LabelledImages | tuple[Images | np.ndarray[Any, Any], Tensor | np.ndarray[Any, Any]]


def pair_of(data: ImagesAndLabels) -> Pair:
    """Images (N, C, H, W) and labels (N,) as tensors; floating pixels as float32, labels as int64.

    Raises:
        InputError: no :class:`LabelledImages` and no two tensors or arrays; labels that are no whole numbers.
    """
    if isinstance(data, LabelledImages):
        return data.pair
    allowed = "images and labels, two tensors or arrays, or LabelledImages (.train or .test of a source)"
    require(isinstance(data, (tuple, list)) and len(data) == 2, "data", allowed, type(data).__name__)
    given, classes = data
    images = given if isinstance(given, UnitImages) else _tensor(given, "images")
    if isinstance(images, Tensor) and images.is_floating_point():
        images = images.float()
    labels = _tensor(classes, "labels")
    whole = not labels.is_floating_point() and not labels.is_complex()
    got = f"{labels.dtype} of shape {tuple(labels.shape)}"
    require(labels.ndim == 1 and whole, "labels", "whole numbers of shape (N,)", got)
    return images, labels.long()


def _tensor(given: Tensor | np.ndarray[Any, Any], argument: str) -> Tensor:
    if isinstance(given, Tensor):
        return given
    is_array = isinstance(given, np.ndarray) and given.dtype.kind in "biuf"
    require(is_array, argument, "a tensor or an array of numbers", type(given).__name__)
    return torch.from_numpy(np.ascontiguousarray(given))


@dataclass(frozen=True)
class Unlabelled:
    """Images from elsewhere, whose labels are 0 and never read; ``name`` is what the user called them."""

    name: str
    images: LabelledImages


@dataclass(frozen=True)
class ImageSource:
    """The train and test images of one source; ``name`` is what the user called it.

    ``unlabelled``: what preprocessors learn from in place of the training images, where it is given.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    unlabelled: Unlabelled | None = None

    def facts(self) -> dict[str, Any]:
        """What identifies the images in a run; the name does not."""
        more = {} if self.unlabelled is None else {"unlabelled": self.unlabelled.images.facts()["pixels"]}
        return {"train": self.train.facts(), "test": self.test.facts(), **more}

    def used(self) -> DataUsed:
        """The images as a result tells of them."""
        total = hashlib.sha256(repr(self.facts()).encode()).hexdigest()[:32]
        return DataUsed(name=self.name, train=len(self.train), test=len(self.test), digest=total)


def labelled(
    pixels: Tensor | Pixels, labels: Any, classes: Sequence[str] | None, argument: str = "labels"
) -> LabelledImages:
    """Check labels and build :class:`LabelledImages`; class names default to the indices."""
    array = np.asarray(labels)
    require(
        array.ndim == 1 and len(array) == len(pixels),
        argument,
        f"one for each of {len(pixels)} images",
        array.shape,
    )
    if array.dtype.kind not in "iu":
        reject(argument, "whole numbers", str(array.dtype))
    require(int(array.min()) >= 0, argument, "class indices from 0", int(array.min()))
    if classes is None:
        classes = tuple(map(str, range(int(array.max()) + 1)))
    require(
        int(array.max()) < len(classes),
        argument,
        f"class indices from 0 to {len(classes) - 1}",
        int(array.max()),
    )
    held = InMemory(pixels) if isinstance(pixels, Tensor) else pixels
    return LabelledImages(held, torch.from_numpy(array.astype(np.int64)), tuple(classes))


def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
