"""The attack inside the training of a preprocessor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.engine.region import Region
from heirloom.objectives.objective import Each
from heirloom.threat import Threat

ONE_STEP = 1.25  # of the radius: Wong, Rice and Kolter, ICLR 2020
MANY_STEPS = 0.5  # of the radius, each


class _Function(nn.Module):
    """A function as the module that attacks differentiate."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def strongest_nearby(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    reference: Tensor,
    each: Each,
    threat: Threat,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Images in the threat set around ``x`` where ``each(function(x'), reference)`` is higher: from a random start,
    ``steps`` ascent steps of 1.25 (one) or 0.5 (several) radii, projected. Gradients of the input alone.
    """
    size = (ONE_STEP if steps == 1 else MANY_STEPS) * threat.eps
    module, found = _Function(function), threat.random_start(x, generator)
    region = Region.around(x, threat)  # float64 once; a step projects in float32
    for _ in range(steps):
        gradient, _, _ = input_gradient(module, found, reference, each)
        found = region.nearest(found + size * threat.ascent_direction(gradient))
    return found if threat.norm == "Linf" else threat.project(found, x)  # Linf's limits are exact already
