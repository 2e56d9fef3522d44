"""One training step of a batch of two-layer networks, clean or attacked (Xing et al., AISTATS 2024).

The gate, the intercept b and the attack's delta are never differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.theory.sparse_coding.attack import contrastive_delta, fgm
from heirloom.theory.sparse_coding.losses import (
    contrastive_score,
    intercepts,
    loss_of,
    output_layer,
    supervised_gradient,
)
from heirloom.theory.sparse_coding.network import activate
from heirloom.theory.sparse_coding.settings import SparseTraining


def supervised_step(setting: SparseTraining, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
    """Fill ``W.grad`` for one step; returns the attacked loss of each run (R,).

    The gradient in closed form: neither the gate, nor b, nor the attack's delta is differentiated.
    """
    z, y = batch
    with torch.no_grad():
        a, b = setting.a(), intercepts(W, setting.c_b)[:, None]
        z = z + fgm(lambda point: supervised_gradient(setting, W, a, b, point, y), z, eps, setting.norm)
        value, slope = activate(z @ W, b, setting.activation)
        loss, derivative = loss_of(setting.loss, value @ a, y)
        W.grad = z.mT @ (slope * derivative[..., None]) * (a / z.shape[1])
    return loss.mean(1)


def contrastive_step(setting: SparseTraining, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
    """As :func:`supervised_step` for pairs (z, z', y); A = tau W^+ with a ridge, computed anew."""
    z, other, y = batch
    with torch.no_grad():
        moved = z + contrastive_delta(setting, W, z, other, y, eps, setting.attacked)
        b = intercepts(W, setting.c_b)[:, None]
        A = output_layer(setting, W)
    if not setting.lazy:
        A = output_layer(setting, W)
    g = contrastive_score(setting, W, A, b, moved, other)
    loss = functional.softplus(-y * g).mean(1)
    loss.sum().backward()
    return loss.detach()
