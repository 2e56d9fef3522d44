"""The fast gradient method: one step along the direction of steepest ascent.

Goodfellow, Shlens and Szegedy, ICLR 2015 (Linf: FGSM). With ``random_start``, Wong, Rice and Kolter, "Fast is
better than free", ICLR 2020, which take a step of 1.25 eps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import Loss, cross_entropy
from heirloom.threat import Threat


def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    loss: Loss = cross_entropy,
    step_size: float | None = None,
    random_start: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One step of ``step_size`` (default: eps, or 1.25 eps after a random start), projected.

    Args:
        x: clean images (N, C, H, W) in [0, 1]; y: what ``loss`` takes as its second argument.
        generator: draws the random start; torch's default generator is never touched when it is given.

    Returns:
        adversarial images, float32, inside the threat set. One forward and one backward pass.
    """
    start = threat.random_start(x, generator) if random_start else x
    if step_size is None:
        step_size = 1.25 * threat.eps if random_start else threat.eps
    gradient, _, _ = input_gradient(model, start, y, loss)
    return threat.project(start + step_size * threat.ascent_direction(gradient), x)
