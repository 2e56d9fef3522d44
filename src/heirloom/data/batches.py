"""Batches of a set of images in a given order: by index from memory, or decoded ahead in worker processes."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from heirloom.data.pixels import InMemory, Pixels
from heirloom.runtime.errors import InputError
from heirloom.runtime.processors import decoding_workers, give_back, passed

AHEAD = 2  # batches that each worker has ready


def batches(pixels: Pixels, plan: Iterable[Tensor], *, workers: int | None = None) -> Iterator[Tensor]:
    """``pixels.batch(indices)`` for each ``indices`` of ``plan``, in that order, whatever is decoded where.

    Args:
        plan: may be longer than anyone takes; what is decoded ahead is thrown away.
        workers: processes that decode; None: as the machine has room. A set in memory needs none.

    Raises:
        InputError: a picture that cannot be read, by its name.
    """
    workers = decoding_workers() if workers is None else workers
    if isinstance(pixels, InMemory) or workers == 0:
        yield from map(pixels.batch, plan)
        return
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Reader(pixels),  # type: ignore[arg-type]
        batch_sampler=_Plan(plan),
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_as_read,
        multiprocessing_context="fork" if "fork" in multiprocessing.get_all_start_methods() else None,
        worker_init_fn=_spare,
        generator=torch.Generator(),  # else the workers' seed is drawn from torch's global state
    )
    give_back()  # the workers are copies of this process
    for read in loader:
        if isinstance(read, InputError):
            raise read
        passed(read.nbytes)
        yield torch.from_numpy(read)


class _Reader:
    """What a worker does: one list of indices in, one array out. An array goes through a pipe, not through
    shared memory, of which containers have little; an error comes back as itself, not as a text.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __getitems__(self, indices: list[int]) -> Any:
        try:
            return self.pixels.batch(torch.tensor(indices)).numpy()
        except InputError as error:
            return error


class _Plan:
    """A plan as lists, made while they are asked for."""

    def __init__(self, plan: Iterable[Tensor]) -> None:
        self.plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return (indices.tolist() for indices in self.plan)


def _spare(number: int) -> None:
    """Leave the pages that a worker shares with its parent shared: a collection would write to every object's."""
    gc.freeze()


def _as_read(read: Any) -> Any:
    return read
