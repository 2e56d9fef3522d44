"""The threat set around given images, with what can be computed once kept: for attacks of many steps.

:meth:`heirloom.threat.Threat.project` proves each point in float64; a step of an attack needs only a cheap
projection that lands inside. Every attack still ends with ``threat.project``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.randomness import normal, uniform
from heirloom.threat import Norm, Threat, norms

# float32 sums over an image err by less than this (relative), so points projected to it pass in float64
_INSIDE = 1 - 2e-6


@dataclass(frozen=True)
class Region:
    """The threat set around images ``x`` (N, ...): index it to keep some of the examples."""

    threat: Threat
    x: Tensor
    lower: Tensor
    upper: Tensor

    @staticmethod
    def around(x: Tensor, threat: Threat) -> Region:
        x = x.detach().float()
        if threat.norm == "Linf":
            return Region(threat, x, *threat.box(x))
        return Region(threat, x, x, x)

    def __getitem__(self, kept: Tensor) -> Region:
        if self.threat.norm == "Linf":
            return Region(self.threat, self.x[kept], self.lower[kept], self.upper[kept])
        x = self.x[kept]
        return Region(self.threat, x, x, x)

    def nearest(self, point: Tensor, eps: float | None = None) -> Tensor:
        """The point of ball and pixel box nearest to ``point`` (L2: the ball's nearest point,
        cut off at 0 and 1, as AutoAttack has it).

        Args:
            eps: another radius than the threat's (L2 and L1 only).
        """
        if self.threat.norm == "Linf":
            return torch.clamp(point, self.lower, self.upper)
        radius = (self.threat.eps if eps is None else eps) * _INSIDE
        if self.threat.norm == "L1":
            return self.x + project_l1_box(point - self.x, self.x, radius)
        delta = point - self.x
        return (self.x + delta * (radius / norms(delta, "L2").clamp_min(1e-30)).clamp_max(1)).clamp(0, 1)


def noise_like(x: Tensor, norm: Norm, generator: torch.Generator | None) -> Tensor:
    """Where AutoAttack's random starts lie before scaling: uniform in [-1, 1) for Linf, else Gaussian."""
    if norm == "Linf":
        return uniform(x.shape, generator, x.device) * 2 - 1
    return normal(x.shape, generator, x.device)


def project_l1_box(delta: Tensor, x: Tensor, eps: float) -> Tensor:
    """The nearest ``d`` (L2) to ``delta`` with ``|d|_1 <= eps`` and ``x + d`` in [0, 1].

    Croce and Hein, "Mind the box", ICML 2021, Proposition 2.2: every entry shrinks by one threshold and is
    cut where its pixel ends; the threshold is found by bisection, from the side on which the sum stays
    below eps.
    """
    sign = delta.sign()
    magnitude = delta.abs().flatten(1)
    room = torch.where(delta > 0, 1 - x, x).flatten(1)
    free = torch.minimum(magnitude, room)
    low = torch.zeros(len(delta), 1, device=delta.device)
    high = magnitude.amax(1, keepdim=True)
    high = torch.where(free.sum(1, keepdim=True) <= eps, low, high)
    for _ in range(30):
        middle = (low + high) / 2
        total = torch.minimum((magnitude - middle).clamp_min(0), room).sum(1, keepdim=True)
        above = total > eps
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    kept = torch.minimum((magnitude - high).clamp_min(0), room)
    return sign * kept.view_as(delta)
