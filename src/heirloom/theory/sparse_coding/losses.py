"""Losses of a batch of two-layer networks and their gradients (Xing et al., AISTATS 2024, Sections 3.3, 5).

Runs come first in every shape. The gate and the intercept b are never differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.theory.sparse_coding.network import activate
from heirloom.theory.sparse_coding.settings import Loss, SparseTraining


def supervised_gradient(
    setting: SparseTraining, W: Tensor, a: Tensor, b: Tensor, z: Tensor, y: Tensor
) -> Tensor:
    """d loss / d z (R, n, d); a (H,)."""
    value, slope = activate(z @ W, b, setting.activation)
    derivative = loss_of(setting.loss, value @ a, y)[1]
    return (slope @ (a * W).mT) * derivative[..., None]


def contrastive_score(
    setting: SparseTraining, W: Tensor, A: Tensor, b: Tensor, z: Tensor, other: Tensor
) -> Tensor:
    """g(z, z'), equation (5), (R, n)."""
    left = activate(z @ W, b, setting.activation)[0] @ A
    return (left * (activate(other @ W, b, setting.activation)[0] @ A)).sum(-1)


def output_layer(setting: SparseTraining, W: Tensor) -> Tensor:
    """A = tau W^T (W W^T + r I)^-1 (R, H, d), r = ridge tr(W W^T) / d."""
    G = W @ W.mT
    eye = torch.eye(G.shape[-1])
    r = setting.ridge * G.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    return setting.tau * torch.linalg.solve(G + r * eye, W).mT


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
