"""The Euclidean length of the whole perturbation is at most eps."""

from __future__ import annotations

from torch import Tensor

from heirloom.threat.geometry import INSIDE, Geometry, Limits


class L2(Geometry):
    order, dual = 2.0, 2.0

    def onto_ball(self, delta: Tensor, eps: float) -> Tensor:
        return delta * (eps / self.length(delta).clamp_min(1e-30)).clamp_max(1)

    def project(self, x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
        inside = x + self.onto_ball(x_adv.clamp(0, 1) - x, eps)
        return self.pulled_in(inside.clamp(0, 1), x, eps)

    def nearest(self, point: Tensor, x: Tensor, limits: Limits, eps: float) -> Tensor:
        """The ball's nearest point, cut off at 0 and 1, as AutoAttack has it."""
        return (x + self.onto_ball(point - x, eps * INSIDE)).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient / self.length(gradient).clamp_min(1e-30)
