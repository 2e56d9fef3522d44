"""Pixels of many images: a tensor in memory, or files that are decoded when a batch is asked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from heirloom.runtime.identity import digest
from heirloom.threat import check_images

# of a batch of images as float32: glibc maps and unmaps larger tensors (above 32 MiB) anew each time, and the page
# faults cost five times the arithmetic
BATCH_BYTES, MOST = 16 << 20, 1024


class Pixels(Protocol):
    """What a set of images is made of; nobody may count on all of it being in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """uint8 (in [0, 255]) or float32 (in [0, 1])."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """The images ``indices`` (K,) as stored: (K, C, H, W)."""
        ...

    def select(self, indices: Tensor) -> Pixels:
        """The images ``indices`` as a set of their own; one that is decoded stays on the disk."""
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Pixels in one tensor; ``rows`` (N,) are those that count, in order (None: all). A selection copies nothing."""

    source: Tensor
    rows: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """All of them (N, C, H, W), copied where they are a selection."""
        return self.source if self.rows is None else self.source[self.rows]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.source.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.source if self.rows is None else self.rows)

    def batch(self, indices: Tensor) -> Tensor:
        return self.source[indices if self.rows is None else self.rows[indices]]

    def select(self, indices: Tensor) -> InMemory:
        return InMemory(self.source, indices if self.rows is None else self.rows[indices])


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
        from heirloom.data.batches import batches

        return map(to_unit_range, batches(self.pixels, torch.arange(len(self)).split(size)))

    def digest(self, *following: Tensor) -> str:
        """That of the float32 tensor and what follows it (:func:`heirloom.runtime.identity.digest`): one pass over
        the set, the first time.
        """
        if self._hashed is None:
            self._hashed = hash_of(self.shape, torch.float32, self.split(pass_size(self.shape)))
        total = self._hashed.copy()
        for tensor in following:
            total.update(_header(tuple(tensor.shape), tensor.dtype) + _bytes(tensor))
        return total.hexdigest()[:32]

    def check(self, argument: str = "images") -> None:
        """Raise :class:`InputError` unless all are in [0, 1]; those stored as uint8 are."""
        if self.pixels.dtype != torch.uint8:
            for x in self.split(1024):
                check_images(x, argument)


Images = Tensor | UnitImages
Pair = tuple[Images, Tensor]  # images and labels (N,)


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]; float32 pixels as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def pass_size(shape: tuple[int, ...]) -> int:
    """How many images of a set of ``shape`` (N, C, H, W) a pass over all of it holds at once."""
    return max(1, min(MOST, BATCH_BYTES // (4 * math.prod(shape[1:]))))


def digest_of(shape: tuple[int, ...], dtype: torch.dtype, parts: Iterator[Tensor]) -> str:
    """:func:`heirloom.runtime.identity.digest` of a tensor that comes in parts."""
    return str(hash_of(shape, dtype, parts).hexdigest())[:32]


def hash_of(shape: tuple[int, ...], dtype: torch.dtype, parts: Iterator[Tensor]) -> Any:
    total = hashlib.sha256(_header(shape, dtype))
    for part in parts:
        total.update(_bytes(part))
    return total


def _header(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    return repr((tuple(shape), dtype)).encode()


def _bytes(x: Tensor) -> bytes | memoryview:
    return memoryview(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


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
