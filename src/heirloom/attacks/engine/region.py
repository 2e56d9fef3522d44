"""The threat set around given images, with what can be computed once kept: for attacks of many steps.

:meth:`heirloom.threat.Threat.project` proves each point in float64; a step of an attack needs only a cheap
projection that lands inside. Every attack still ends with ``threat.project``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from heirloom.threat import Threat
from heirloom.threat.geometry import Limits


@dataclass(frozen=True)
class Region:
    """The threat set around images ``x`` (N, ...): index it to keep some of the examples.

    ``limits`` is what the norm keeps for all steps (Linf: lowest and highest pixels).
    """

    threat: Threat
    x: Tensor
    limits: Limits

    @staticmethod
    def around(x: Tensor, threat: Threat) -> Region:
        x = x.detach().float()
        return Region(threat, x, threat.geometry.limits(x, threat.eps))

    def __getitem__(self, kept: Tensor) -> Region:
        return Region(self.threat, self.x[kept], tuple(limit[kept] for limit in self.limits))

    def nearest(self, point: Tensor, eps: float | None = None) -> Tensor:
        """The point of ball and pixel box nearest to ``point`` (L2: the ball's nearest point,
        cut off at 0 and 1, as AutoAttack has it).

        Args:
            eps: another radius than the threat's (L2 and L1 only).
        """
        eps = self.threat.eps if eps is None else eps
        return self.threat.geometry.nearest(point, self.x, self.limits, eps)
