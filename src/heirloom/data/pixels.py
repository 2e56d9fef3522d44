"""Pixels of many images: a tensor in memory, or files that are decoded when a batch is asked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

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


def hash_on(total: Any, following: Tensor) -> None:
    """Go on with the hash of :func:`hash_of`: a tensor that follows."""
    total.update(_header(tuple(following.shape), following.dtype) + _bytes(following))


def _header(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    return repr((tuple(shape), dtype)).encode()


def _bytes(x: Tensor) -> bytes | memoryview:
    return memoryview(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
