"""How fast patch features grow, step by step: Li and Li, arXiv 2410.08503, Lemmas 5.1 (D.4), 5.2 (D.18), B.2.

The formulas are lost from every copy within reach; these follow from projecting one step of gradient descent
on the noiseless population onto the features. With A_ir = <w_ir, u_i>, B_ir = <w_ir, v_i> and p_i the
probability of the true class at class i's point,

    A_ir += eta / k (1 - p_i) J_R a s'(a A_ir)          B_ir += eta / k (1 - p_i) (P - J_R) b s'(b B_ir)

where a = alpha and b = beta in standard training (exact), and in adversarial training
a = alpha - min(eps, eta~ sum_r A_ir s'(alpha A_ir)), b likewise: what the ascent step leaves of the feature. That
neglects what the step adds along other features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.theory.patches.model import PatchDistribution
from heirloom.theory.patches.network import patch_logits, smoothed_relu
from heirloom.theory.patches.training import Batch, PatchTraining, training_attack


def diagonal(weight: Tensor, distribution: PatchDistribution) -> tuple[Tensor, Tensor]:
    """A and B, (S, k, m) each: every filter along its own class's features."""
    u, v = (feature.to(weight) for feature in distribution.features())
    return torch.einsum("skmd,kd->skm", weight, u), torch.einsum("skmd,kd->skm", weight, v)


def predicted_growth(
    weight: Tensor, batch: Batch, training: PatchTraining, distribution: PatchDistribution
) -> tuple[Tensor, Tensor]:
    """What the lemmas add to A and B in one step, (S, k, m) each; ``batch`` the noiseless population."""
    x = training_attack(weight, batch, training)
    logits, _ = patch_logits(weight, x, batch.counts, training.rho, training.q)
    true = logits.softmax(-1).gather(-1, batch.y.expand(len(logits), -1)[..., None])  # (S, k, 1)
    rate = training.learning_rate / distribution.classes * (1 - true)
    robust = distribution.robust_patches
    kinds = zip(
        diagonal(weight, distribution),
        (distribution.alpha, distribution.beta),
        (robust, distribution.patches - robust),
        strict=True,
    )
    grown = []
    for along, strength, patches in kinds:
        left = strength - _taken(along, strength, training)
        slope = smoothed_relu(left * along, training.rho, training.q)[1]
        grown.append(rate * patches * left * slope)
    return grown[0], grown[1]


def _taken(along: Tensor, strength: float, training: PatchTraining) -> Tensor:
    """What the ascent step takes from a feature of that strength, (S, k, 1)."""
    if training.objective == "none":
        return torch.zeros_like(along[..., :1])
    slope = smoothed_relu(strength * along, training.rho, training.q)[1]
    step = training.ascent_step * (slope * along).sum(-1, keepdim=True)
    return step.minimum(torch.as_tensor(training.eps, dtype=step.dtype)).clamp_min(0)


def takeover_step(start: Tensor, rate: float, level: float, *, q: int = 3, most: int = 100_000) -> Tensor:
    """Lemma B.2: the first step at which x += rate x^(q - 1) from ``start`` (...) reaches ``level``; ``most``
    where it has not by then (and where the start is not above 0)."""
    x, reached = start.clone(), torch.full(start.shape, most)
    for step in range(most):
        reached = torch.where((x >= level) & (reached == most), step, reached)
        open_ = (reached == most) & (start > 0)
        if not bool(open_.any()):
            break
        x = torch.where(open_, x + rate * x.clamp_min(0) ** (q - 1), x)
    return reached


def early_rate(training: PatchTraining, distribution: PatchDistribution, *, robust: bool) -> float:
    """Near initialisation, where p_i = 1 / k and s is a power: x += rate x^(q - 1) for A (``robust``) or B."""
    k, j, q = distribution.classes, distribution.robust_patches, training.q
    patches, strength = (j, distribution.alpha) if robust else (distribution.patches - j, distribution.beta)
    bend = float(torch.as_tensor(training.rho)) ** (q - 1)
    return training.learning_rate / k * (1 - 1 / k) * patches * strength**q / bend
