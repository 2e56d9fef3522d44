"""Proposition 1 of CRoPD (arXiv 2504.10850, section 3.2) as numbers: reconstruction says nothing of the classifier.

The paper's proof takes the identity as auto-encoder and measures the adversarial error against the attacked input,
where it is 0. Its statement measures it against the clean x, where the identity's is eps^2. The construction here
satisfies the statement: an auto-encoder that pulls every attacked point to within 1/sqrt(n) of its clean one, and a
classifier that is sure on the points themselves and wrong a little beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.errors import require


@dataclass(frozen=True)
class Reconstruction:
    """The four numbers of the proposition: mean squared reconstruction errors, mean cross-entropies (nats)."""

    clean_error: float
    adversarial_error: float
    clean_loss: float
    adversarial_loss: float


def proposition_1(n: int, eps: float = 0.5, points: int = 2001) -> Reconstruction:
    """Two points on the line, -1 and 1, one of each class; the worst case is searched on a grid of the ball.

    The auto-encoder maps x' within eps of a point c to c + (x' - c) / (eps sqrt(n)), so its adversarial error is
    exactly 1/n. The classifier's log odds for the nearest point's class are n at the point and fall linearly by 2 n
    over 1/sqrt(n), so they are -n where the attack ends: the losses go to 0 and to infinity with n.

    Args:
        eps: below 1, so that the balls do not touch. points: of the grid, odd, so that it holds the point itself.
    """
    require(n >= 1, "n", "at least 1", n)
    require(0 < eps < 1, "eps", "between 0 and 1", eps)
    require(points >= 3 and points % 2 == 1, "points", "odd and at least 3", points)
    centres = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    ball = centres + torch.linspace(-eps, eps, points, dtype=torch.float64)
    made = centres + (ball - centres) / (eps * n**0.5)
    errors, losses = (made - centres).square(), _loss(made, centres, n)
    middle = points // 2
    return Reconstruction(
        float(errors[:, middle].mean()),
        float(errors.amax(1).mean()),
        float(losses[:, middle].mean()),
        float(losses.amax(1).mean()),
    )


def _loss(made: Tensor, centres: Tensor, n: int) -> Tensor:
    """Cross-entropy of the class of the point that each value was made from."""
    odds = n * (1 - 2 * (made - centres).abs() * n**0.5)
    return torch.nn.functional.softplus(-odds)
