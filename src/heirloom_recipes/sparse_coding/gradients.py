"""Losses, attacks and gradients of a batch of two-layer networks (I3, I5, I8), runs first in every shape.

The gate, the intercept b and the attack's delta are never differentiated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.theory.sparse_coding.network import activate
from heirloom_recipes.sparse_coding.setting import Attacked, AttackNorm, Loss, Training


def supervised_step(setting: Training, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
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


def supervised_gradient(setting: Training, W: Tensor, a: Tensor, b: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """d loss / d z (R, n, d); a (H,)."""
    value, slope = activate(z @ W, b, setting.activation)
    derivative = loss_of(setting.loss, value @ a, y)[1]
    return (slope @ (a * W).mT) * derivative[..., None]


def contrastive_step(setting: Training, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
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


def contrastive_delta(
    setting: Training, W: Tensor, z: Tensor, other: Tensor, y: Tensor, eps: Tensor, attacked: Attacked = "all"
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


def contrastive_score(setting: Training, W: Tensor, A: Tensor, b: Tensor, z: Tensor, other: Tensor) -> Tensor:
    """g(z, z'), equation (5), (R, n)."""
    left = activate(z @ W, b, setting.activation)[0] @ A
    return (left * (activate(other @ W, b, setting.activation)[0] @ A)).sum(-1)


def output_layer(setting: Training, W: Tensor) -> Tensor:
    """A = tau W^T (W W^T + r I)^-1 (R, H, d), r = ridge tr(W W^T) / d."""
    G = W @ W.mT
    eye = torch.eye(G.shape[-1])
    r = setting.ridge * G.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    return setting.tau * torch.linalg.solve(G + r * eye, W).mT


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


def loss_of(loss: Loss, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each example and its derivative in f."""
    if loss == "square":
        return (f - y).square(), 2 * (f - y)
    if loss == "absolute":
        return (f - y).abs(), (f - y).sign()
    return functional.softplus(-y * f), -y * torch.sigmoid(-y * f)


def intercepts(W: Tensor, c_b: float) -> Tensor:
    """b_h = c_b norm(W_h), (R, H), outside the gradient."""
    return c_b * torch.linalg.vector_norm(W.detach(), dim=1)
