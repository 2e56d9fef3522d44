"""The changes of all pixels sum to at most eps: the attacker picks few of them."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.runtime.randomness import normal, uniform
from heirloom.threat.geometry import INSIDE, Geometry, Limits


class L1(Geometry):
    order, dual = 1.0, float("inf")

    def onto_ball(self, delta: Tensor, eps: float) -> Tensor:
        """Duchi et al., ICML 2008, Figure 1."""
        flat = delta.flatten(1)
        magnitude = flat.abs()
        ordered = magnitude.sort(dim=1, descending=True).values
        excess = ordered.cumsum(1) - eps
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        support = (ordered * count > excess).sum(1, keepdim=True).clamp_min(1)
        threshold = (excess.gather(1, support - 1) / support).clamp_min(0)
        return (flat.sign() * (magnitude - threshold).clamp_min(0)).view_as(delta)

    def project(self, x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
        """The ball's nearest point, and then the box's."""
        inside = x + self.onto_ball(x_adv - x, eps)
        return self.pulled_in(inside.clamp(0, 1), x, eps)

    def nearest(self, point: Tensor, x: Tensor, limits: Limits, eps: float) -> Tensor:
        return x + project_l1_box(point - x, x, eps * INSIDE)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of the largest entry alone."""
        flat = gradient.flatten(1)
        top = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign()).view_as(gradient)

    def random_delta(self, x: Tensor, eps: float, generator: torch.Generator | None) -> Tensor:
        """A Laplace direction, and a radius uniform in [0, eps]."""
        sign = normal(x.shape, generator, x.device).sign()
        direction = sign * -uniform(x.shape, generator, x.device).clamp_min(1e-7).log()
        radius = uniform(x.shape[:1], generator, x.device).view(-1, *[1] * (x.ndim - 1))
        return eps * radius * direction / self.length(direction).clamp_min(1e-12)


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
