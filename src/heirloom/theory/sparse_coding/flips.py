"""How many gates an attack can flip (Lemma F.4), by an attack that wants nothing else.

Shapes: U (d, H); b (H,); z (n, d) points in the feature basis.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1e-3  # of the edge: how far beyond it a gate is moved
MOVES = 300


def most_flips(U: Tensor, b: Tensor, z: Tensor, eps: float) -> Tensor:
    """The perturbation (n, d) of L2 length at most eps that was found to change the state of the most gates.

    The gate that is nearest to its edge (along its own U_h) and fits in what is left of the ball is flipped first, and
    so on. On pure nodes, where moves do not disturb each other and every feature has as many nodes, no perturbation
    flips more. The step of eps against the open map, of either sign, is a candidate too.
    """
    lengths = torch.linalg.vector_norm(U, dim=0)
    edge, before = b / lengths, (z @ U).abs() >= b
    delta, best = torch.zeros_like(z), torch.zeros_like(z)
    most = torch.zeros(len(z), dtype=torch.long)

    def offer(point: Tensor) -> Tensor:
        nonlocal best, most
        flipped = ((z + point) @ U).abs().ge(b) != before
        count = flipped.sum(1)
        best = torch.where((count > most)[:, None], point, best)
        most = torch.maximum(count, most)
        return flipped

    dense = U.sum(1) * (eps / torch.linalg.vector_norm(U.sum(1)).clamp_min(1e-30))
    for sign in (-1, 1):
        offer((sign * dense).expand_as(z))
    for _ in range(min(MOVES, U.shape[1])):
        flipped = offer(delta)
        u = ((z + delta) @ U) / lengths
        side = torch.where(u < 0, -1.0, 1.0)
        move = side * torch.where(before, edge * (1 - MARGIN) - u.abs(), edge * (1 + MARGIN) - u.abs())
        cost = move * (move + 2 * (delta @ U) / lengths)
        fits = ~flipped & (cost <= eps**2 - delta.square().sum(1, keepdim=True))
        least, gate = torch.where(fits, cost, torch.inf).min(1, keepdim=True)
        if not bool(least.isfinite().any()):
            break
        step = (move / lengths).gather(1, gate) * least.isfinite()
        delta = delta + step * U[:, gate[:, 0]].T
    offer(delta)
    return best
