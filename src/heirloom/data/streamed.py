"""Images that stay in their files: an Arrow table, memory-mapped by ``datasets``, decoded batch by batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heirloom.data.pictures import read_picture
from heirloom.runtime.errors import reject
from heirloom.runtime.processors import decoding_workers, passed


@dataclass(frozen=True, eq=False)
class Streamed:
    """Pixels that are read, decoded and brought to their size when a batch asks for them.

    Attributes:
        table: of ``datasets``, whose column ``column`` holds undecoded images (``Image(decode=False)``).
        rows: (N,) which of its rows these are, in order.
        channels, side: what :func:`heirloom.data.pictures.read_picture` makes; size: (width, height) where ``side``
            is None and all pictures have this size.
    """

    table: Any
    column: str
    rows: Tensor
    channels: int
    side: int | None
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        width, height = self.size
        return len(self.rows), self.channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor) -> Tensor:
        """Decoded by threads (decoding leaves Python's lock); by one inside a worker process."""
        rows = self.rows[indices].tolist()
        pixels = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        files = self.table[rows][self.column] if rows else []

        def read(place: int) -> None:
            made = self._read(files[place], rows[place])
            if made.shape != pixels.shape[1:]:
                reject("images", f"of shape {pixels.shape[1:]}", f"row {rows[place]}: {made.shape}")
            pixels[place] = made

        threads = 1 if _in_worker() else min(decoding_workers(), len(rows))
        if threads <= 1:
            for place in range(len(rows)):
                read(place)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(read, range(len(rows))))
        passed(pixels.nbytes)
        return torch.from_numpy(pixels)

    def select(self, indices: Tensor) -> Streamed:
        return replace(self, rows=self.rows[indices])

    def _read(self, row: Any, number: int) -> np.ndarray[Any, Any]:
        return read_picture(*source_of(row, number), channels=self.channels, side=self.side)


def source_of(row: Any, number: int) -> tuple[Path | bytes, str]:
    """What the reader takes, and what errors call it: the file's name, or the row's number."""
    if row is None:
        reject("data", "an image in every row", f"none in row {number}")
    path, content = row.get("path"), row.get("bytes")
    name = f"{path} (row {number})" if path else f"row {number}"
    return (content if content is not None else Path(path)), name


def _in_worker() -> bool:
    return torch.utils.data.get_worker_info() is not None
