"""An attack for patch networks that flat activations do not fool: MultiTargeted sign steps, patch by patch.

Gowal et al., "An Alternative Surrogate Loss for PGD-based Adversarial Testing" (MultiTargeted),
arXiv 1910.09338, with two things that the two-layer patch CNN asks for. The smoothed ReLU is exactly flat
below zero, so most input gradients are exactly 0 and an attack that starts at the clean point or at a random
one sees nothing: here it starts towards the strongest filter of the target class. And the margin F_j - F_y is
a sum over patches, so each patch keeps its own best iterate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.runtime.errors import require
from heirloom.theory.patches.model import PatchSample
from heirloom.theory.patches.network import Number, smoothed_relu

START = 0.7  # of eps: away from the corner, so that the first steps can still change every sign


def multi_targeted_margins(
    weight: Tensor,
    x: Tensor,
    y: Tensor,
    counts: Tensor,
    eps: Number,
    *,
    rho: Number,
    q: int = 3,
    steps: int = 5,
) -> tuple[Tensor, Tensor]:
    """Attack S networks at N points under ``max |delta| <= eps`` on every patch.

    Args:
        weight: (S, k, m, d). x: (S, N, T, d), not confined to [0, 1]. y: (N,). counts: (S or 1, T), how often
            each patch occurs; equal patches get equal perturbations.
        eps, rho: above 0; numbers, or tensors (S, 1, 1).
        steps: sign steps of eps / 2.

    Returns:
        the highest F_j - F_y found for each target (S, N, k - 1), target j = y + 1, y + 2, ... modulo k; and
        the patches that reach it (S, N, k - 1, T, d). The clean patch is among the candidates.
    """
    require(steps >= 1, "steps", "at least 1", steps)
    k = weight.shape[1]
    found = [
        _one_target((weight[:, (y + step) % k], weight[:, y]), x, eps, rho, q, steps) for step in range(1, k)
    ]
    gains, patches = zip(*found, strict=True)
    share = counts[:, None, None, :].to(weight)
    return (torch.stack(gains, 2) * share).sum(-1), torch.stack(patches, 2)


def robustly_correct(margins: Tensor) -> Tensor:
    """True (S, N) where no target reached the true class; a tie counts as an error."""
    return (margins < 0).all(-1)


def _one_target(
    filters_of: tuple[Tensor, Tensor], x: Tensor, eps: Number, rho: Number, q: int, steps: int
) -> tuple[Tensor, Tensor]:
    """The best F_target - F_y of every patch by itself (S, N, T), and that patch (S, N, T, d); ``filters_of``
    are the filters of each point's target and of its class, (S, N, m, d) each."""
    runs, n, t, d = x.shape
    wanted, true = filters_of
    filters = torch.cat([wanted, true], 2).flatten(0, 1)  # (S N, 2 m, d)
    sign = torch.ones(filters.shape[1]).to(wanted)
    sign[wanted.shape[2] :] = -1
    eps, rho = torch.as_tensor(_per_row(eps, n), dtype=wanted.dtype), _per_row(rho, n)
    clean = x.reshape(runs * n, t, d)
    best, gain = clean, _gain(clean, filters, sign, rho, q)[0]
    moved = clean + START * eps * strongest_filter(wanted.flatten(0, 1), clean, eps).sign()
    for step in range(steps + 1):
        value, slope = _gain(moved, filters, sign, rho, q)
        better = value > gain
        best = torch.where(better[..., None], moved, best)
        gain = torch.where(better, value, gain)
        if step < steps:
            ascent = ((slope * sign) @ filters).sign()
            moved = clean + (moved + eps / 2 * ascent - clean).clamp(-eps, eps)
    return gain.view(runs, n, t), best.view(runs, n, t, d)


def strongest_filter(filters: Tensor, x: Tensor, eps: Number) -> Tensor:
    """For each patch (B, T, d) the one of ``filters`` (B, m, d) that can reach the highest activation in the
    ball, max over r of <w_r, x> + eps |w_r|_1: (B, T, d)."""
    reach = x @ filters.mT + eps * filters.abs().sum(-1)[:, None]
    return torch.einsum("btm,bmd->btd", functional.one_hot(reach.argmax(-1), filters.shape[1]).to(x), filters)


def _gain(x: Tensor, filters: Tensor, sign: Tensor, rho: Number, q: int) -> tuple[Tensor, Tensor]:
    value, slope = smoothed_relu(x @ filters.mT, rho, q)
    return value @ sign, slope


def _per_row(value: Number, n: int) -> Number:
    return value.expand(-1, n, 1).reshape(-1, 1, 1) if isinstance(value, Tensor) else value


def model_free_perturbation(sample: PatchSample, eps: float, generator: torch.Generator) -> Tensor:
    """delta (N, P, d) of Theorem 4.3, within eps: on each non-robust patch -min(eps, beta_p) v_y and as
    much of v_y' instead, y' a random other class of the point."""
    k = len(sample.features[0])
    other = (sample.y + torch.randint(1, k, sample.y.shape, generator=generator)) % k
    v = sample.features[1]
    size = sample.strength.clamp(max=eps) * ~sample.robust
    return size[..., None] * (v[other] - v[sample.y])[:, None]
