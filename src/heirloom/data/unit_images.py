"""Images of a set as float32 in [0, 1], whether all of them are in memory or not, and with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from heirloom.data.batches import batches
from heirloom.data.pixels import InMemory, Pixels, hash_of, hash_on, pass_size, to_unit_range
from heirloom.runtime.identity import digest
from heirloom.threat import check_images


class UnitImages:
    """Images as float32 (N, C, H, W) in [0, 1], made when they are asked for: ``images[index]``, or batch by batch.

    It stands where a tensor of all images would: nothing that goes through a set by batches needs all of it.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self._hashed: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> Tensor:
        """The images of a tensor of indices, a slice, a list, or a boolean tensor (N,)."""
        return to_unit_range(self.pixels.batch(torch.arange(len(self))[index]))

    def select(self, indices: Tensor) -> UnitImages:
        return UnitImages(self.pixels.select(indices))

    def split(self, size: int) -> Iterator[Tensor]:
        """Batches of ``size`` images, in order."""
        return map(to_unit_range, batches(self.pixels, torch.arange(len(self)).split(size)))

    def digest(self, *following: Tensor) -> str:
        """That of the float32 tensor and what follows it (:func:`heirloom.runtime.identity.digest`): one pass over
        the set, the first time.
        """
        if self._hashed is None:
            self._hashed = hash_of(self.shape, torch.float32, self.split(pass_size(self.shape)))
        total = self._hashed.copy()
        for tensor in following:
            hash_on(total, tensor)
        return total.hexdigest()[:32]

    def check(self, argument: str = "images") -> None:
        """Raise :class:`InputError` unless all are in [0, 1]; those stored as uint8 are."""
        if self.pixels.dtype != torch.uint8:
            for x in self.split(1024):
                check_images(x, argument)


Images = Tensor | UnitImages
Pair = tuple[Images, Tensor]  # images and labels (N,)


def digest_of_images(images: Images) -> str:
    """The digest of images, whether they are all there or not."""
    return digest(images) if isinstance(images, Tensor) else images.digest()


def digest_of_pair(data: Pair) -> str:
    """The digest of images and labels together."""
    images, labels = data
    return digest(images, labels) if isinstance(images, Tensor) else images.digest(labels)


def digested_once(data: Pair) -> Pair:
    """The same pair, whose images remember their digest: several facts of one run ask for it."""
    images, labels = data
    if isinstance(images, Tensor) and images.dtype == torch.float32:
        return UnitImages(InMemory(images)), labels
    return data


def select(images: Images, indices: Tensor) -> Images:
    """The images ``indices`` of a set; what is not all there stays so."""
    return images[indices] if isinstance(images, Tensor) else images.select(indices)


def check_all(images: Images, argument: str = "images") -> None:
    """:func:`heirloom.threat.check_images` of images, whether they are all there or not."""
    if isinstance(images, Tensor):
        check_images(images, argument)
    else:
        images.check(argument)
