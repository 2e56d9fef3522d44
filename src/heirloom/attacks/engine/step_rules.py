"""How Auto-PGD steps: with momentum (Linf, L2; Croce and Hein, ICML 2020, section 3) or on few pixels at once
(L1; Croce and Hein, "Mind the box", ICML 2021, section 3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from heirloom.attacks.engine.region import Region

MOMENTUM = 0.75


@dataclass
class State:
    """The examples still running; every field has them as its first dimension."""

    index: Tensor  # their places in the batch
    y: Tensor
    point: Tensor
    before: Tensor  # the point before that: momentum
    gradient: Tensor
    value: Tensor  # the loss at ``point``
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step: Tensor  # (N, 1, ..., 1)
    rises: Tensor  # steps since the last checkpoint that raised the loss
    checked_value: Tensor  # the best loss at the last checkpoint
    reduced: Tensor  # whether the step was halved there
    share: Tensor  # L1: the share of pixels that a step changes
    support: Tensor  # L1: how many pixels the best point changed at the last checkpoint

    def __getitem__(self, kept: Tensor) -> State:
        return State(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


class StepRule(ABC):
    """The part of Auto-PGD that depends on the norm."""

    first_step: ClassVar[float]  # in eps

    def stages(self, steps: int) -> list[tuple[int, int]]:
        """(radius in eps, steps) of the balls that a run goes through, the last of radius eps."""
        return [(1, steps)]

    def place(self, region: Region, start: Tensor, eps: float) -> Tensor:
        """Where a stage begins that is handed ``start``."""
        return start

    @abstractmethod
    def random_start(self, region: Region, generator: torch.Generator | None) -> Tensor: ...

    def near_start(self, region: Region, generator: torch.Generator | None) -> Tensor:
        """Where a short run begins: the clean image, if steps lead away from it."""
        return region.x

    @abstractmethod
    def first_interval(self, steps: int) -> int:
        """Steps to the first checkpoint."""

    def next_interval(self, steps: int, interval: int) -> int:
        """Steps to the next one."""
        return interval

    @abstractmethod
    def advance(self, state: State, region: Region, eps: float, step: int) -> None:
        """Move ``state.point``."""

    @abstractmethod
    def stalled(self, state: State, region: Region, eps: float, wanted: float) -> Tensor:
        """At a checkpoint: change the step where progress stalls; which examples (N,) go back to their best.

        ``wanted`` is how many of the steps since the last one should have raised the loss.
        """


class MomentumSteps(StepRule):
    first_step = 2.0

    def random_start(self, region: Region, generator: torch.Generator | None) -> Tensor:
        """On the surface of the ball, moved into [0, 1]."""
        geometry = region.threat.geometry
        noise = geometry.noise(region.x, generator)
        return region.nearest(region.x + region.threat.eps * noise / geometry.length(noise).clamp_min(1e-12))

    def first_interval(self, steps: int) -> int:
        return max(int(0.22 * steps), 1)

    def next_interval(self, steps: int, interval: int) -> int:
        return max(interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))

    def advance(self, state: State, region: Region, eps: float, step: int) -> None:
        moved = region.nearest(state.point + state.step * region.threat.ascent_direction(state.gradient))
        if step > 1:
            momentum = MOMENTUM * (moved - state.point) + (1 - MOMENTUM) * (state.point - state.before)
            moved = region.nearest(state.point + momentum)
        state.before, state.point = state.point, moved

    def stalled(self, state: State, region: Region, eps: float, wanted: float) -> Tensor:
        no_gain = ~state.reduced & (state.checked_value >= state.best_value)
        back = (state.rises <= wanted) | no_gain
        state.step = torch.where(_like(back, state.step), state.step / 2, state.step)
        state.checked_value, state.reduced = state.best_value.clone(), back
        return back


class SparseSteps(StepRule):
    first_step = 1.0

    def stages(self, steps: int) -> list[tuple[int, int]]:
        """30 % of the steps at 3 eps, 30 % at 2 eps, the rest at eps."""
        early = -(-3 * steps // 10) if steps >= 10 else 0
        return [*([(3, early), (2, early)] if early else []), (1, steps - 2 * early)]

    def place(self, region: Region, start: Tensor, eps: float) -> Tensor:
        return region.nearest(start, eps)

    def random_start(self, region: Region, generator: torch.Generator | None) -> Tensor:
        """In the ball of radius 3 eps."""
        noise = region.threat.geometry.noise(region.x, generator)
        return region.nearest(region.x + noise, 3 * region.threat.eps)

    def near_start(self, region: Region, generator: torch.Generator | None) -> Tensor:
        """At random: a step moves about as many pixels as the point has moved, from the clean image one."""
        return self.random_start(region, generator)

    def first_interval(self, steps: int) -> int:
        return max(int(0.04 * steps), 1)

    def advance(self, state: State, region: Region, eps: float, step: int) -> None:
        state.point = region.nearest(state.point + state.step * _sparse(state.gradient, state.share), eps)

    def stalled(self, state: State, region: Region, eps: float, wanted: float) -> Tensor:
        support = (state.best != region.x).flatten(1).sum(1).float()
        back = support / state.support < 0.95
        slower = state.step / 1.5
        state.step = torch.where(_like(back, slower), eps, slower).clamp(eps / 10, eps)
        state.share, state.support = support / state.best[0].numel() / 1.5, support
        return back


def _sparse(gradient: Tensor, share: Tensor) -> Tensor:
    """A step of L1 norm 1 on the ``share`` of entries where the gradient is largest."""
    flat = gradient.abs().flatten(1)
    count = flat.shape[1]
    place = ((1 - share) * count).long().clamp(0, count - 1)
    threshold = flat.sort(1).values.gather(1, place[:, None])
    chosen = torch.where(flat >= threshold, gradient.flatten(1).sign(), 0.0)
    return (chosen / chosen.abs().sum(1, keepdim=True).clamp_min(1e-10)).view_as(gradient)


def _like(flag: Tensor, images: Tensor) -> Tensor:
    return flag.view(-1, *[1] * (images.ndim - 1))
