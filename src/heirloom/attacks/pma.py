"""Probability Margin Attack: Xie, Zheng, Huang, Ye and Ma, "Towards Million-Scale Adversarial Robustness Evaluation
With Stronger Individual Attacks", arXiv 2411.15210, section 3: ascent on the margin of probabilities.

Two things differ from the paper. Logits are measured in their spread on the clean image, so that neither their
scale nor a saturated softmax decides; and the ascent is Auto-PGD's, from the clean image itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.apgd import apgd
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.targets import Success
from heirloom.attacks.losses import Loss, margin
from heirloom.threat import Threat

SHARPNESS = 3.0  # of the softmax: logits in so many of their clean spread


def pma(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    until: Success | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Few steps that find most of what many find: where passes are scarce (choosing an epoch, a first look).

    Args:
        model: a classifier; x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        until: as :func:`heirloom.attacks.apgd.apgd` takes it.

    Returns:
        the iterate of highest probability margin: float32, inside the threat set. At most steps + 2 forward and
        steps backward passes (two more of each for L1); one restart, from the clean image.
    """
    with torch.no_grad():
        scale = spread(predict(model, x.detach().float()))
    row = torch.arange(len(x), device=x.device)
    task = torch.stack([y, y, row], 1)
    found = apgd(
        model,
        x,
        task,
        threat,
        loss=probability_margin(scale),
        steps=steps,
        until=None if until is None else _on_labels(until),
        start=x.detach().float(),
        generator=generator,
    )
    return found


def spread(logits: Tensor) -> Tensor:
    """The standard deviation of each example's logits (N, 1)."""
    return logits.std(1, keepdim=True).clamp_min(1e-12)


def probability_margin(scale: Tensor) -> Loss:
    """Of (logits, task), where task (N, 3) holds label, target and place in ``scale``: the highest other
    probability minus the true one."""
    return lambda logits, task: margin(_probabilities(logits, scale, task), task[:, 0])


def target_probability_margin(scale: Tensor) -> Loss:
    """The target's probability minus the true one."""

    def loss(logits: Tensor, task: Tensor) -> Tensor:
        both = _probabilities(logits, scale, task).gather(1, task[:, :2])
        return both[:, 1] - both[:, 0]

    return loss


def _probabilities(logits: Tensor, scale: Tensor, task: Tensor) -> Tensor:
    return functional.softmax(SHARPNESS * logits / scale[task[:, 2]], 1)


def _on_labels(until: Success) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda output, task: until(output, task[:, 0])
