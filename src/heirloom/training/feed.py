"""The batches of a training run in their order, a pure function of (seed, epoch), on the device that trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from heirloom.data.batches import batches
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import to_unit_range
from heirloom.runtime.randomness import generator_of


class Feed:
    """``(x, y)`` for each step from ``first`` to ``last``: this process's share ``[rank::count]`` of the batch.

    Args:
        batch_size: of all processes together. rank, count: of the processes.
    """

    def __init__(
        self, data: LabelledImages, batch_size: int, seed: int, *, rank: int = 0, count: int = 1
    ) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.rank, self.count = rank, count
        self.steps_per_epoch = len(data) // batch_size
        self._order: tuple[int, Tensor] | None = None

    def between(self, first: int, last: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        asked: deque[Tensor] = deque()  # workers read ahead

        def plan() -> Iterator[Tensor]:
            for step in range(first, last):
                asked.append(self.indices(step))
                yield asked[-1]

        for pixels in batches(self.data.pixels, plan()):
            labels = self.data.labels[asked.popleft()]
            yield to_unit_range(moved(pixels, device)), moved(labels, device)

    def indices(self, step: int) -> Tensor:
        """Of the images of ``step``; the end of an epoch that fills no batch is left out."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order_of(epoch)
        mine = order[position * self.batch_size : (position + 1) * self.batch_size]
        return mine[self.rank :: self.count]

    def _order_of(self, epoch: int) -> Tensor:
        held = self._order  # read once: a worker's plan may run ahead into the next epoch
        if held is None or held[0] != epoch:
            order = torch.randperm(len(self.data), generator=generator_of(self.seed, "order", epoch))
            held = self._order = epoch, order
        return held[1]


def moved(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on ``device``: by way of pinned memory to a GPU, so that it goes over while the last step still runs."""
    if device.type != "cuda":
        return x.to(device)
    copied: Any = x.pin_memory().to(device, non_blocking=True)
    return copied
