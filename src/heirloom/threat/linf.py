"""Every pixel moves by at most eps."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.runtime.randomness import uniform
from heirloom.threat.geometry import Geometry, Limits


class Linf(Geometry):
    order, dual = float("inf"), 1.0

    def limits(self, x: Tensor, eps: float) -> Limits:
        """The lowest and highest pixel values allowed around ``x``, exact in float64."""
        exact_lower, exact_upper = x.double() - eps, x.double() + eps
        lower, upper = exact_lower.float(), exact_upper.float()
        lower = torch.where(lower.double() < exact_lower, torch.nextafter(lower, x), lower)
        upper = torch.where(upper.double() > exact_upper, torch.nextafter(upper, x), upper)
        return lower.clamp_min(0), upper.clamp_max(1)

    def onto_ball(self, delta: Tensor, eps: float) -> Tensor:
        return delta.clamp(-eps, eps)

    def project(self, x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
        lower, upper = self.limits(x, eps)
        return torch.minimum(torch.maximum(x_adv, lower), upper)

    def nearest(self, point: Tensor, x: Tensor, limits: Limits, eps: float) -> Tensor:
        return torch.clamp(point, *limits)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def noise(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Uniform in [-1, 1)."""
        return uniform(x.shape, generator, x.device) * 2 - 1

    def random_delta(self, x: Tensor, eps: float, generator: torch.Generator | None) -> Tensor:
        """Uniform in the ball."""
        return eps * self.noise(x, generator)
