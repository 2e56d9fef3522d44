"""What differs from norm to norm: lengths, projections, steps and draws. One object a norm, without state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from heirloom.runtime.randomness import normal, uniform

# float32 sums over an image err by less than this (relative), so points projected to it pass in float64
INSIDE = 1 - 2e-6

Limits = tuple[Tensor, ...]


class Geometry(ABC):
    """The ball of one norm around images in the pixel box; all images are float32 of shape (N, ...)."""

    order: ClassVar[float]
    dual: ClassVar[float]  # the order of the norm that measures gradients

    def length(self, delta: Tensor) -> Tensor:
        """The norm of each example, shaped (N, 1, ..., 1) to broadcast against ``delta``."""
        return length(delta, self.order)

    def dual_length(self, gradient: Tensor) -> Tensor:
        """How fast a linear function of this gradient grows along the steepest step of length 1."""
        return length(gradient, self.dual)

    def limits(self, x: Tensor, eps: float) -> Limits:
        """What :meth:`nearest` can have computed once for all steps: here nothing."""
        return ()

    @abstractmethod
    def onto_ball(self, delta: Tensor, eps: float) -> Tensor:
        """The point of the norm ball alone (no pixel range) nearest to ``delta``."""

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
        """The nearest point of ball and pixel box whose distance, in float64, never exceeds eps."""

    @abstractmethod
    def nearest(self, point: Tensor, x: Tensor, limits: Limits, eps: float) -> Tensor:
        """A cheap projection that lands inside, for a step of an attack of many steps."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of length 1 along which a linear function with this gradient grows most."""

    def noise(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Where AutoAttack's random starts lie before scaling: Gaussian."""
        return normal(x.shape, generator, x.device)

    def random_delta(self, x: Tensor, eps: float, generator: torch.Generator | None) -> Tensor:
        """A random direction, and a radius uniform in [0, eps]."""
        direction = self.noise(x, generator)
        radius = uniform(x.shape[:1], generator, x.device).view(-1, *[1] * (x.ndim - 1))
        return eps * radius * direction / self.length(direction).clamp_min(1e-12)

    def pulled_in(self, x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
        """float32 rounding can leave a projected point a few ulp outside: pull it in until float64 agrees."""
        for attempt in range(12):
            distance = self.length(x_adv.double() - x.double())
            outside = distance > eps
            if not bool(outside.any()):
                return x_adv
            # a perturbation of few ulp does not change by a factor near 1, so the slack grows
            factor = torch.where(outside, eps / distance * (1 - 2e-7 * 4**attempt), 1.0).float()
            x_adv = torch.where(factor < 1, x + (x_adv - x) * factor, x_adv)
        return torch.where(self.length(x_adv.double() - x.double()) > eps, x, x_adv)


def length(delta: Tensor, order: float) -> Tensor:
    value = torch.linalg.vector_norm(delta.flatten(1), order, dim=1)
    return value.view(-1, *[1] * (delta.ndim - 1))
