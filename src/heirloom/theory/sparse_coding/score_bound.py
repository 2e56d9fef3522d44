"""What no attack on a gate network exceeds: an upper bound on f over the ball, by duality.

Shapes as in ``gate_aware``: n points z (n, d); H nodes; a (H,) or (n, H).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.settings import AttackNorm


def score_bound(scores: Scores, z: Tensor, eps: float, W: Tensor, *, norm: AttackNorm = "L2") -> Tensor:
    """A number (n,) that f exceeds nowhere within eps of each point: gate networks, W (d, H) dense.

    With u_h = W_h^T delta, slopes s_h, lambda >= 0 and mu >= 0 such that W diag(mu) W^T <= I,
    f = sum phi_h(u_h) <= sum_h max_u [phi_h(u) - s_h u - lambda mu_h u^2] + (W s)^T delta + lambda |delta|^2,
    whatever delta is, for sum_h mu_h u_h^2 <= |delta|^2. The maxima over |u| <= eps |W_h| are closed forms on the
    three pieces of the gate. s = t_1 a on the gates that are open at z and t_2 a on the others; the best of a
    search over (t_1, t_2, lambda), in which the bound is convex, is returned.
    """
    require(scores.activation == "gate", "activation", "gate", scores.activation)
    v, a = z @ W, scores.a.expand(len(z), -1)
    on = (v.abs() >= scores.b).to(v.dtype)
    pushed = (a * on) @ W.T, (a * (1 - on)) @ W.T
    lengths = torch.linalg.vector_norm(W, ord=2 if norm == "L2" else 1, dim=0)
    mu = _curvatures(W, a)
    ball = eps**2 * (1 if norm == "L2" else z.shape[1])
    dual = 2 if norm == "L2" else 1

    def bound(t: Tensor) -> Tensor:
        """t (3, n): t_1, t_2 and lambda."""
        s = a * (t[0, :, None] * on + t[1, :, None] * (1 - on))
        slope = torch.linalg.vector_norm(
            t[0, :, None] * pushed[0] + t[1, :, None] * pushed[1], ord=dual, dim=1
        )
        rest = _piece_maxima(v, a, scores.b, s, t[2, :, None] * mu, eps * lengths).sum(1)
        return rest + eps * slope + t[2] * ball

    scale = torch.linalg.vector_norm(pushed[0] + pushed[1], dim=1) / (2 * ball**0.5)
    return _search(bound, scale)


def _search(bound: Callable[[Tensor], Tensor], scale: Tensor, rounds: int = 5) -> Tensor:
    """The lowest bound over starting grids, then coordinate by coordinate with shrinking steps."""
    grid = [(t1, t2, share) for t1 in (0.0, 0.5, 1.0) for t2 in (0.0, 0.5, 1.0) for share in (0.0, 0.3, 1.0)]
    points = [
        torch.stack([torch.full_like(scale, t1), torch.full_like(scale, t2), share * scale])
        for t1, t2, share in grid
    ]
    best, at = torch.full_like(scale, torch.inf), points[0]

    def offer(point: Tensor) -> None:
        nonlocal best, at
        value = bound(point)
        better = value < best
        best, at = torch.where(better, value, best), torch.where(better, point, at)

    for point in points:
        offer(point)
    for step in (0.25 * 0.5**r for r in range(rounds)):
        for coordinate in range(3):
            for sign in (-1, 1):
                moved = at.clone()
                moved[coordinate] += sign * step * (scale if coordinate == 2 else 1)
                moved[2].clamp_min_(0)
                offer(moved)
    return best


def _piece_maxima(v: Tensor, a: Tensor, b: Tensor, s: Tensor, curvature: Tensor, reach: Tensor) -> Tensor:
    """max over |u| <= reach of a sigma(v + u, b) - s u - curvature u^2, (n, H)."""
    twice = (2 * curvature).clamp_min(1e-12)
    found = torch.full_like(v, -torch.inf)
    for low, high, slope in ((b - v, reach, a), (-reach, -b - v, a), (-b - v, b - v, torch.zeros_like(a))):
        low, high = torch.maximum(low, -reach), torch.minimum(high, reach)
        u = torch.minimum(torch.maximum((slope - s) / twice, low), high)
        value = slope * (v + u) - s * u - curvature * u.square()
        found = torch.where(low <= high, torch.maximum(found, value), found)
    return found


def _curvatures(W: Tensor, a: Tensor) -> Tensor:
    """mu (H,) with W diag(mu) W^T <= I, in proportion to mean |a_h| / |W_h|, which gave the lowest bounds."""
    mu = a.abs().mean(0) / torch.linalg.vector_norm(W, dim=0).clamp_min(1e-30)
    largest = torch.linalg.eigvalsh(((W * mu) @ W.T).double())[-1].clamp_min(1e-30)
    return mu / (largest * (1 + 1e-5)).to(W.dtype)
