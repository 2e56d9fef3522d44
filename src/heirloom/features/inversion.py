"""Images with a given representation: normalised gradient descent from another image.

Ilyas, Santurkar, Tsipras, Engstrom, Tran and Madry, "Adversarial Examples Are Not Bugs, They Are Features", NeurIPS
2019, Section 3.1 and Appendix C: min over x' of |g(x') - g(x)|, g the penultimate layer, x' moving by steps of a fixed
L2 length. Li and Li, arXiv 2410.08503, Section 6.2, use the same problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.losses import squared_distance
from heirloom.runtime.choices import StepRule, listed
from heirloom.runtime.errors import require
from heirloom.threat import norms

SHRINK, GROW = 0.5, 1.25


@dataclass(frozen=True)
class Inverted:
    """``x`` (N, C, H, W), float32 in [0, 1]; ``distance`` and ``start_distance`` (N,): L2 distances of the
    representations of ``x`` and of the start from the target."""

    x: Tensor
    distance: Tensor
    start_distance: Tensor


def invert(
    encoder: nn.Module,
    target: Tensor,
    start: Tensor,
    *,
    steps: int = 1000,
    step_size: float | None = None,
    step_rule: StepRule = "decaying",
) -> Inverted:
    """Images in [0, 1] whose representations come as near to ``target`` as the descent gets.

    Args:
        encoder: [0, 1] pixels -> features (N, D), deterministic and in eval mode; only its input is differentiated.
        target: (N, D), a representation for each image.
        start: (N, C, H, W) in [0, 1], where the descent begins.
        steps: each costs one forward and one backward pass.
        step_size: L2 length of the first step, in pixel units over the whole image; default .03 times the root of
            the number of pixels, so that the way in all is many times an image's diameter.
        step_rule: ``decaying``: the length falls linearly to 0. ``constant``: Ilyas et al.'s; it ends by jumping to and
            fro over the minimum. ``adaptive``: an image's step is halved where it did not come nearer, and is tried
            again from the nearest image so far; it grows by a quarter where it did: exact for a smooth encoder, stuck
            in the kinks of a network of ReLUs.

    Returns:
        for each image the nearest iterate, the start included.

    Raises:
        InputError: targets and starts that do not fit, representations that are not finite.
    """
    require(steps >= 1, "steps", "at least 1", steps)
    step_size = 0.03 * start[0].numel() ** 0.5 if step_size is None else step_size
    require(0 < step_size < float("inf"), "step_size", "a number above 0", step_size)
    require(step_rule in get_args(StepRule), "step_rule", f"one of {listed(StepRule)}", step_rule)
    require(len(target) == len(start), "target", f"one row for each of {len(start)} starts", len(target))
    require(bool(torch.isfinite(target).all()), "target", "finite features", "NaN or infinite ones")
    best = start.detach().float().clone()
    gradient, nearest, _ = input_gradient(encoder, best, target, squared_distance)
    require(bool(torch.isfinite(nearest).all()), "encoder", "one of finite features", "NaN or infinite ones")
    first, here = nearest.clone(), best.clone()
    length = torch.full((len(start), *[1] * (start.ndim - 1)), step_size, device=start.device)
    for step in range(steps):
        trial = (here - length * _direction(gradient)).clamp(0, 1)
        if step < steps - 1:
            slope, values, _ = input_gradient(encoder, trial, target, squared_distance)
        else:
            slope, values = gradient, _distances(encoder, trial, target)
        better = values < nearest  # False where it is not a number
        chosen = better.view(-1, *[1] * (start.ndim - 1))
        best, nearest = torch.where(chosen, trial, best), torch.where(better, values, nearest)
        if step_rule == "adaptive":
            here, gradient = best, torch.where(chosen, slope, gradient)
            length = length * torch.where(chosen, GROW, SHRINK)
        else:
            here, gradient = trial, slope
            if step_rule == "decaying":
                length = torch.full_like(length, step_size * (1 - (step + 1) / steps))
    return Inverted(best, nearest.sqrt(), first.sqrt())


def _direction(gradient: Tensor) -> Tensor:
    return gradient / norms(gradient, "L2").clamp_min(1e-30)


@torch.no_grad()
def _distances(encoder: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    return squared_distance(predict(encoder, x), target)
