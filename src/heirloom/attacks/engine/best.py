"""What an attack has found so far: the best point of each example, its value, and who is still attacked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Best:
    """The point (N, ...) of highest value (N,) of each example, and the places of those not yet finished."""

    point: Tensor
    value: Tensor
    active: Tensor

    @staticmethod
    def of(point: Tensor, value: Tensor | None = None) -> Best:
        """All examples active at a copy of ``point``; below every value unless theirs is given."""
        if value is None:
            value = torch.full((len(point),), -torch.inf, device=point.device)
        return Best(point.clone(), value, torch.arange(len(point), device=point.device))

    def keep(self, place: Tensor, point: Tensor, value: Tensor, done: Tensor) -> None:
        """Take for the examples at ``place`` each point of a higher value, and each that is ``done``."""
        better = (value > self.value[place]) | done
        self.point[place[better]], self.value[place[better]] = point[better], value[better]

    def take(self, place: Tensor, point: Tensor, value: Tensor, which: Tensor) -> None:
        """Take those points for which ``which`` (K,) holds; no mask as an index."""
        wide = which.view(-1, *[1] * (point.ndim - 1))
        self.point[place] = torch.where(wide, point, self.point[place])
        self.value[place] = torch.where(which, value, self.value[place])

    def keep_all(self, point: Tensor, value: Tensor) -> None:
        """:meth:`keep` of all examples where none is ever done: no mask as an index, for which a GPU would stop."""
        better = value > self.value
        self.point = torch.where(better.view(-1, *[1] * (point.ndim - 1)), point, self.point)
        self.value = torch.where(better, value, self.value)

    def keep_highest(self, place: Tensor, point: Tensor, value: Tensor) -> None:
        """:meth:`keep` where ``place`` may name an example several times."""
        highest = self.value.scatter_reduce(0, place, value, "amax")
        better = (value == highest[place]) & (value > self.value[place])
        self.point[place[better]], self.value[place[better]] = point[better], value[better]

    def finish(self, done: Tensor) -> None:
        """Stop with those of the active examples for which ``done`` holds."""
        self.active = self.active[~done]
