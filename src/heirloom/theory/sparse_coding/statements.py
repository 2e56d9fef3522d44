"""The statements of Xing et al., AISTATS 2024, as functions that measure both sides on a network.

U is (d, H), everything in the feature basis (M drops out of every L2 statement), theta = U a; x (n, d) true
features, noise (n, d) = M^T xi.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.theory.sparse_coding.built_losses import SparseNetwork
from heirloom.theory.sparse_coding.network import Scores


@dataclass(frozen=True)
class GateFlips:
    """Shares of the (input, node) pairs whose gate is not what the true features say.

    opened: nodes without an active feature that are on; closed: nodes with one that are off; any_flip: inputs
    with at least one such node.
    """

    opened: float
    closed: float
    any_flip: float


def gate_flips(U: Tensor, b: Tensor, x: Tensor, moved: Tensor) -> GateFlips:
    """Lemmas F.3 and F.4: gates at the point ``moved`` (n, d), noise and attack included, against features."""
    holds = ((x != 0).to(U.dtype) @ (U != 0).to(U.dtype)) > 0
    on = (moved @ U).abs() >= b
    opened, closed = on & ~holds, holds & ~on
    return GateFlips(
        float(opened.sum() / (~holds).sum().clamp_min(1)),
        float(closed.sum() / holds.sum().clamp_min(1)),
        float((opened | closed).any(1).double().mean()),
    )


def first_order_increment(scores: Scores, z: Tensor, y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Equation (2) for the square loss, (n,) each: the increment under FGM as measured, and
    eps |dl/df| |a^T diag(gates) W^T| + (eps |...|)^2, the last being the curvature of the loss."""
    on = (scores.pull(z).abs() >= scores.b).to(z.dtype)
    gradient = scores.push(on * scores.a)
    length = torch.linalg.vector_norm(gradient, dim=1)
    residual = scores(z) - y
    direction = gradient * (residual.sign() / length.clamp_min(1e-30))[:, None]
    measured = (scores(z + eps * direction) - y).square() - residual.square()
    return measured, 2 * eps * residual.abs() * length + (eps * length).square()


def linf_terms(U: Tensor, a: Tensor, x: Tensor, b: Tensor, M: Tensor) -> tuple[Tensor, Tensor, float]:
    """Section C: |M theta_X|_1 (n,), |M U diag(gates) a|_1 (n,), |M theta|_1; with M the identity the first is
    the lower and the last the upper end."""
    theta = U @ a
    on = ((x @ U).abs() >= b).to(U.dtype)
    seen = (on * a) @ U.T
    return (((x != 0) * theta) @ M.T).abs().sum(1), (seen @ M.T).abs().sum(1), float((M @ theta).abs().sum())


@dataclass(frozen=True)
class Membership:
    """Definition 4.1 as ratios which "much smaller" asks to be far above 1; the worst node counts.

    Read with |U_h| / sqrt(k |U_h|_0), as Lemma F.3 writes it.
    below: |U_h| / sqrt(k |U_h|_0) over b_h (1). above: b_h over that divided by log d (2, left). noise: that
    divided by log d over |U_h| / sqrt d (2, right). sparse: d / k over the largest |U_h|_0 (3). wide: H / d
    (3). level: smallest over largest non-zero |U_ih| (4), Theta(1). same_sign: (4).
    """

    below: float
    above: float
    noise: float
    sparse: float
    wide: float
    level: float
    same_sign: bool


def membership(U: Tensor, b: Tensor, k: float) -> Membership:
    """The ratios of Definition 4.1 for U (d, H) and b (H,); nodes that are zero are left out."""
    U, b = U[:, U.abs().sum(0) > 0], b[U.abs().sum(0) > 0]
    d, H = U.shape
    log_d = float(torch.tensor(float(d)).log())
    count, norm = (U != 0).sum(0), torch.linalg.vector_norm(U, dim=0)
    upper = norm / (k * count).sqrt()
    size = U.abs()[U != 0]
    return Membership(
        float((upper / b).min()),
        float((b * log_d / upper).min()),
        float((upper / log_d * d**0.5 / norm).min()),
        float(d / k / count.max()),
        H / d,
        float(size.min() / size.max()),
        bool((((U > 0).any(1)) & ((U < 0).any(1))).sum() == 0),
    )


def symmetrised_relu(v: Tensor, b: Tensor | float) -> Tensor:
    """relu(v - b) - relu(-v - b): two ReLU nodes with opposite weights in the place of one gate node."""
    return functional.relu(v - b) - functional.relu(-v - b)


def linear_contrastive_loss(D: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Lemma 5.1: the contrastive loss (n,) of g(x, x') = x^T diag(D) x' over a similar and a dissimilar pair;
    x, other (n, d) in the basis P."""
    similar, dissimilar = (x.square() * D).sum(1), (x * other * D).sum(1)
    return (functional.softplus(-similar) + functional.softplus(dissimilar)) / 2


@dataclass(frozen=True)
class Couplings:
    """Theorem 5.2's entries for one x: gamma_1 (i inactive, j active) and gamma_2 (both inactive, i != j), the
    mean of the entries beside the root of their mean square: signs cancel in the mean."""

    mean_1: float
    rms_1: float
    mean_2: float
    rms_2: float


def coupling_entries(sparse: SparseNetwork, x: Tensor) -> Couplings:
    """Entries of U diag(D) U^T (U U^T)^-1, D on where a node holds an active feature of x (d,)."""
    K, active = sparse.coupling_matrix(x), x != 0
    first, second = K[~active][:, active], K[~active][:, ~active]
    off = second[~torch.eye(len(second), dtype=torch.bool)]

    def root(entries: Tensor) -> float:
        return float(entries.square().mean().sqrt())

    return Couplings(float(first.mean()), root(first), float(off.mean()), root(off))
