"""Lemma 4.2 of Xing et al., AISTATS 2024: how much of a network an L2 attacker sees.

norm(theta_X) <= norm(a^T diag(1{abs(U^T x) >= b}) U^T) <= norm(theta), with theta = U a and X the active
features of x. Left: every node pure. Right: every node on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.errors import require


@dataclass(frozen=True)
class Bounds:
    """Equation (3) for n inputs; ``lower``, ``middle``, (n,), ``upper`` a number; all at least 0."""

    lower: Tensor
    middle: Tensor
    upper: float

    def violations(self, tolerance: float = 1e-5) -> int:
        """Inputs for which the middle leaves [lower, upper] by more than ``tolerance`` of upper."""
        slack = tolerance * self.upper
        return int(((self.middle < self.lower - slack) | (self.middle > self.upper + slack)).sum())


def lemma_4_2(
    U: Tensor, a: Tensor, x: Tensor, b: Tensor | float = 0.0, *, noise: Tensor | None = None
) -> Bounds:
    """The three terms of equation (3), in float64.

    Args:
        U: (d, H) strength of each feature in each node; a: (H,) output weights.
        x: (n, d) true features; ``noise`` (n, d), M^T xi, is added before the gates and not to the active set.
        b: intercepts (H,) or one number, at least 0. With b = 0 a node is on when U_h^T x is not 0.
    """
    require(U.ndim == 2 and a.shape == (U.shape[1],), "a", f"of shape ({U.shape[-1]},)", tuple(a.shape))
    require(x.ndim == 2 and x.shape[1] == len(U), "x", f"of shape (n, {len(U)})", tuple(x.shape))
    U, a, x = U.double(), a.double(), x.double()
    v = ((x if noise is None else x + noise.double()) @ U).abs()
    on = (v >= torch.as_tensor(b, dtype=v.dtype)) & (v > 0)
    seen = (on * a) @ U.T
    theta = U @ a
    lower = torch.linalg.vector_norm((x != 0) * theta, dim=1)
    return Bounds(lower, torch.linalg.vector_norm(seen, dim=1), float(torch.linalg.vector_norm(theta)))
