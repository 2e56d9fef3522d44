"""What Square Attack tries next: Andriushchenko et al., ECCV 2020, sections 3.3 (Linf) and 3.4 (L2); for L1
Croce and Hein, "Mind the box", ICML 2021, section 4.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from heirloom.attacks.engine.bumps import bump_of, spatial_norm
from heirloom.attacks.engine.region import Region
from heirloom.runtime.choices import Norm
from heirloom.runtime.randomness import integers, uniform

Generator = torch.Generator | None


class Proposals(Protocol):
    """The part of Square Attack that depends on the norm."""

    @property
    def independent(self) -> bool:
        """Whether a proposal does not depend on those before it but through the point that it changes."""

    def start(self, region: Region, generator: Generator) -> Tensor:
        """The first point of each example."""

    def propose(self, region: Region, current: Tensor, sides: Tensor, generator: Generator) -> Tensor:
        """``current`` changed in one window of ``sides`` (N,) for each picture."""


@dataclass(frozen=True)
class Windows:
    """Linf: one window a picture, each channel wholly at +eps or at -eps."""

    independent: bool = True

    def start(self, region: Region, generator: Generator) -> Tensor:
        """Vertical stripes of one pixel, each at +eps or -eps."""
        n, channels, _, width = region.x.shape
        return _painted(region, _signs((n, channels, 1, width), generator, region.x.device))

    def propose(self, region: Region, current: Tensor, sides: Tensor, generator: Generator) -> Tensor:
        n, channels = current.shape[:2]
        window = _window(current, sides, generator)[0]
        sign = _signs((n, channels, 1, 1), generator, current.device)
        return torch.where(window, _painted(region, sign), current)


@dataclass(frozen=True)
class Bumps:
    """L2 and L1: take the mass out of one window and of what the ball has left, put it into another as a bump."""

    power: int
    independent: bool = False

    def start(self, region: Region, generator: Generator) -> Tensor:
        """A grid of 5 x 5 bumps with random signs, on the ball's surface."""
        n, channels, height, width = region.x.shape
        side = max(min(height, width) // 5, 1)
        delta = torch.zeros_like(region.x)
        bump = bump_of(side, self.power, region.x.device)
        for top in range((height % side) // 2, height - side + 1, side):
            for left in range((width % side) // 2, width - side + 1, side):
                turned = bump if bool(_signs((1,), generator, bump.device) > 0) else bump.T
                delta[:, :, top : top + side, left : left + side] = turned * _signs(
                    (n, channels, 1, 1), generator, bump.device
                )
        size = region.threat.geometry.length(delta).clamp_min(1e-12)
        return region.nearest(region.x + region.threat.eps * delta / size)

    def propose(self, region: Region, current: Tensor, sides: Tensor, generator: Generator) -> Tensor:
        """``sides`` are all the same: a bump has one size."""
        sides = _odd(sides, current)
        delta = current - region.x
        emptied, filled = _window(current, sides, generator), _window(current, sides, generator)
        budget = self._budget(region, delta, emptied[0] | filled[0])
        turned = self._turned_bumps(current, int(sides[0]), generator)
        place = _entries(current, *emptied[1:], int(sides[0]))
        old = delta[place]
        mixed = turned + old / (spatial_norm(old, self.power) + 1e-12)
        delta = torch.where(filled[0], 0.0, delta)
        delta[place] = mixed / (spatial_norm(mixed, self.power) + 1e-12) * budget
        return region.nearest(region.x + self._on_surface(region, delta))

    def _budget(self, region: Region, delta: Tensor, windows: Tensor) -> Tensor:
        """What each channel may put into its bump (N, C, 1, 1): what lies in both windows, and what is left."""
        eps, power = region.threat.eps, self.power
        within = spatial_norm(delta * windows, power)
        size = region.threat.geometry.length(delta)
        spare = (eps**power - size**power).clamp_min(0) / delta.shape[1]
        return (spare + within**power) ** (1 / power)

    def _on_surface(self, region: Region, delta: Tensor) -> Tensor:
        return region.threat.eps * delta / region.threat.geometry.length(delta).clamp_min(1e-12)

    def _turned_bumps(self, current: Tensor, side: int, generator: Generator) -> Tensor:
        n, channels = current.shape[:2]
        bump = bump_of(side, self.power, current.device)
        turned = torch.where(_signs((n, 1, 1, 1), generator, current.device) > 0, bump, bump.T)
        return turned * _signs((n, channels, 1, 1), generator, current.device)


@dataclass(frozen=True)
class SparseBumps(Bumps):
    """L1: AutoAttack proposes too much, and the projection makes it sparse."""

    def _budget(self, region: Region, delta: Tensor, windows: Tensor) -> Tensor:
        return super()._budget(region, delta, windows) * delta.shape[1]

    def _on_surface(self, region: Region, delta: Tensor) -> Tensor:
        return delta


PROPOSALS: dict[Norm, Proposals] = {"Linf": Windows(), "L2": Bumps(2), "L1": SparseBumps(1)}


def _painted(region: Region, sign: Tensor) -> Tensor:
    lower, upper = region.limits
    return torch.where(sign > 0, upper, lower)


def _odd(sides: Tensor, x: Tensor) -> Tensor:
    """The nearest odd side from 3 on that fits, for all."""
    side = max(int(sides[0]), 3)
    return torch.full_like(sides, min(side + 1 - side % 2, *x.shape[2:]))


def _entries(x: Tensor, top: Tensor, left: Tensor, side: int) -> tuple[Tensor, ...]:
    """Indices of the window of each picture, that broadcast to (N, C, side, side)."""
    offset = torch.arange(side, device=x.device)
    example = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    rows, columns = top[:, None] + offset, left[:, None] + offset
    return example, channel, rows[:, None, :, None], columns[:, None, None, :]


def _signs(shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    return 2.0 * integers(0, 2, shape, generator, device) - 1


def _below(bound: Tensor, generator: Generator) -> Tensor:
    """A whole number from 0 to ``bound`` - 1 for each entry."""
    return torch.minimum((uniform(bound.shape, generator, bound.device) * bound).long(), bound - 1)


def _window(current: Tensor, side: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A window of ``side`` (N,) for each picture: mask (N, 1, H, W), top rows, left columns."""
    height, width = current.shape[2:]
    top, left = _below(height - side + 1, generator), _below(width - side + 1, generator)
    row = torch.arange(height, device=current.device) - top[:, None]
    column = torch.arange(width, device=current.device) - left[:, None]
    rows, columns = (row >= 0) & (row < side[:, None]), (column >= 0) & (column < side[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None], top, left
