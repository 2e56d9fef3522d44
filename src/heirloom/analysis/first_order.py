"""Which images stand to first order: the fragility of a classifier without an attack.

Were the classifier straight around an image x with label y, a change d with |d|_p <= eps would bring class j ahead
by at most

    z_j - z_y + eps |grad(z_j - z_y)|_q,     1/p + 1/q = 1,

so that x stands when that is below 0 for every j. One backward pass a class. How many times more images are right
than stand so (*first-order log drop* of a clean head) is what foretold best of all measures tried what an adversarial
head adds to a frozen encoder (docs/sparse-coding.md). It is an estimate, no bound: networks bend.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.runtime.errors import require
from heirloom.threat import Threat

DUAL = {"Linf": 1.0, "L2": 2.0, "L1": torch.inf}


def first_order_standing(model: nn.Module, images: tuple[Tensor, Tensor], threat: Threat) -> Tensor:
    """Which of n images stand (n,), bool; a tie falls, and so does what is wrong already.

    Args:
        model: a deterministic classifier of pixels in [0, 1] to logits, in eval mode.
        images: x (n, ...) and labels y (n,). threat: pixel bounds are left out, so that no image stands too long.
    """
    x, y = images
    require(len(x) == len(y), "images", f"{len(x)} labels for {len(x)} images", f"{len(y)} labels")
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    worst = torch.full(y.shape, -torch.inf, device=x.device)
    for other in range(classes):
        gradient, ahead, _ = input_gradient(model, x, y, partial(_ahead, other=other))
        reached = ahead + threat.eps * torch.linalg.vector_norm(gradient.flatten(1), DUAL[threat.norm], dim=1)
        worst = torch.where(y == other, worst, torch.maximum(worst, reached))
    return worst < 0


def first_order_drop(model: nn.Module, images: tuple[Tensor, Tensor], threat: Threat) -> float:
    """The share of ``images`` that is right, less the share that stands to first order."""
    with torch.no_grad():
        right = (model(images[0]).argmax(1) == images[1]).double().mean()
    return float(right - first_order_standing(model, images, threat).double().mean())


def first_order_log_drop(model: nn.Module, images: tuple[Tensor, Tensor], threat: Threat) -> float:
    """The logarithm (in nats) of how many times more ``images`` are right than stand to first order; none standing
    counts as half an image, none right as a drop of 0.
    """
    with torch.no_grad():
        right = int((model(images[0]).argmax(1) == images[1]).sum())
    standing = int(first_order_standing(model, images, threat).sum())
    return math.log(right / max(standing, 0.5)) if right else 0.0


def _ahead(logits: Tensor, y: Tensor, other: int) -> Tensor:
    return logits[:, other] - logits.gather(1, y[:, None])[:, 0]
