"""Robustness of a small patch network by enumeration: the reference for attacks on patch data.

For one target j the margin F_j - F_y is a sum over patches, so its maximum over the Linf ball is a sum of
maxima over single patches, each over a box in R^d. The margin of a patch is a convex function (the target's
activations) minus a convex function (the true class's):
- a lower bound on its maximum is the best of the 2^d corners of the box;
- an upper bound: put the tangent at any point in the place of the subtracted function. What is left is
  convex, so its maximum is at a corner and enumeration finds it exactly. Where the tangent is taken at the
  best corner and that corner stays the best, both bounds are equal and the maximum is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.patches.network import smoothed_relu

LARGEST_DIMENSION = 14


@dataclass(frozen=True)
class MarginBounds:
    """For every point and target, (N, k - 1): the highest F_j - F_y in the ball lies in [lower, upper]."""

    lower: Tensor
    upper: Tensor

    def attackable(self) -> Tensor:
        """True (N,) where an enumerated corner reaches another class (a tie counts)."""
        return (self.lower >= 0).any(1)

    def certified(self) -> Tensor:
        """True (N,) where no perturbation in the ball whatever reaches another class."""
        return (self.upper < 0).all(1)


def enumerate_margins(
    weight: Tensor, x: Tensor, y: Tensor, counts: Tensor, eps: float, *, rho: float, q: int = 3
) -> MarginBounds:
    """Bound the worst margins of one network at N points by enumerating 2^d corners for every patch.

    Args:
        weight: (k, m, d) with d at most 14. x: (N, T, d). y: (N,). counts: (T,).
    """
    require(x.shape[-1] <= LARGEST_DIMENSION, "dimension", f"at most {LARGEST_DIMENSION}", x.shape[-1])
    k = len(weight)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=x.shape[-1])))
    corners = eps * signs.to(weight)
    lower, upper = torch.empty(len(x), k - 1), torch.empty(len(x), k - 1)
    for point, label in enumerate(y.tolist()):
        for step in range(1, k):
            wanted = weight[(label + step) % k]
            bounds = _patch_bounds(wanted, weight[label], x[point], corners, rho, q)
            lower[point, step - 1], upper[point, step - 1] = (float(b @ counts.to(b)) for b in bounds)
    return MarginBounds(lower, upper)


def _patch_bounds(
    wanted: Tensor, true: Tensor, x: Tensor, corners: Tensor, rho: float, q: int
) -> tuple[Tensor, Tensor]:
    """Bounds (T,) on each patch's highest margin."""
    candidates = x[:, None] + corners  # (T, 2^d, d)
    raised = smoothed_relu(candidates @ wanted.T, rho, q)[0].sum(-1)
    lowered = smoothed_relu(candidates @ true.T, rho, q)[0].sum(-1)
    lower, best = (raised - lowered).max(1)
    bounds = []
    # tangents at the best corner and half-way to it: each is sound, the lower one is kept
    for share in (1.0, 0.5, 0.0):
        at = x + share * corners[best]
        value, slope = smoothed_relu(at @ true.T, rho, q)
        tangent = value.sum(-1)[:, None] + torch.einsum("tcd,td->tc", candidates - at[:, None], slope @ true)
        bounds.append((raised - tangent).amax(1))
    return lower, torch.stack(bounds).amin(0)
