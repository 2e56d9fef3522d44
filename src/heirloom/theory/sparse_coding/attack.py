"""Attacks on two-layer networks that follow the loss's own gradient: FGM, FGSM, PGD (Sections 3.3, C).

They never see a closed gate, whose slope is 0: ``heirloom.theory.sparse_coding.gate_aware`` does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.losses import intercepts, output_layer
from heirloom.theory.sparse_coding.network import activate
from heirloom.theory.sparse_coding.settings import Attacked, AttackNorm, SparseTraining


def fgm(
    gradient: Callable[[Tensor], Tensor], z: Tensor, eps: Tensor, norm: AttackNorm, steps: int = 1
) -> Tensor:
    """delta (R, n, d) of length eps (R,): one step of eps (FGM, FGSM), or PGD with steps of 2.5 eps / steps."""
    radius = eps[:, None, None]
    if steps == 1:
        return radius * unit(gradient(z), norm)
    delta = torch.zeros_like(z)
    for _ in range(steps):
        delta = delta + 2.5 / steps * radius * unit(gradient(z + delta), norm)
        if norm == "Linf":
            delta = torch.minimum(torch.maximum(delta, -radius), radius)
        else:
            length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True).clamp_min(1e-30)
            delta = delta * (radius / length).clamp_max(1)
    return delta


def unit(gradient: Tensor, norm: AttackNorm) -> Tensor:
    """The step of length 1 along which a linear function with this gradient grows most."""
    if norm == "Linf":
        return gradient.sign()
    return gradient / torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).clamp_min(1e-30)


def within(delta: Tensor, eps: float, norm: AttackNorm) -> Tensor:
    """The point of the ball of radius eps next to each delta (n, d)."""
    if norm == "Linf":
        return delta.clamp(-eps, eps)
    length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True).clamp_min(1e-30)
    return delta * (eps / length).clamp_max(1)


def contrastive_delta(
    setting: SparseTraining,
    W: Tensor,
    z: Tensor,
    other: Tensor,
    y: Tensor,
    eps: Tensor,
    attacked: Attacked = "all",
) -> Tensor:
    """FGM on z alone, (R, n, d); pairs that ``attacked`` leaves out get 0."""
    A, b = output_layer(setting, W), intercepts(W, setting.c_b)[:, None]
    back = (activate(other @ W, b, setting.activation)[0] @ A) @ A.mT

    def gradient(point: Tensor) -> Tensor:
        slope = activate(point @ W, b, setting.activation)[1]
        return -y[..., None] * ((slope * back) @ W.mT)

    delta = fgm(gradient, z, eps, setting.norm)
    if attacked == "all":
        return delta
    return delta * ((y > 0) == (attacked == "similar"))[..., None]
