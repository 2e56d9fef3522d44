"""The feature-based attack on encoders whose optimum is known in closed form."""

import pytest
import torch
from scipy.optimize import lsq_linear
from torch import nn

from heirloom import InputError, Threat
from heirloom.attacks import feature_targeted


class Features(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T


def images(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_out_of_reach_the_nearest_corner_is_found_exactly() -> None:
    """An orthonormal g keeps distances: every coordinate goes eps towards the target and no further."""
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    x, target = 0.5 + 0.1 * images(), torch.where(images(seed=2) > 0.5, 0.95, 0.05)
    encoder, threat = Features(rotation), Threat("Linf", 0.1)
    found = feature_targeted(encoder, x, encoder(target), threat, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, threat.project(x + 0.1 * (target - x).sign(), x), atol=1e-6, rtol=0)


def test_towards_the_bounded_least_squares_solution() -> None:
    weight = torch.randn(24, 16, generator=torch.Generator().manual_seed(3))
    encoder, threat, x = Features(weight), Threat("Linf", 0.05), images()
    target = encoder(images(seed=5))
    found = feature_targeted(
        encoder, x, target, threat, steps=200, generator=torch.Generator().manual_seed(0)
    )
    lower, upper = (x - threat.eps).clamp_min(0), (x + threat.eps).clamp_max(1)
    for i in range(len(x)):
        box = (lower[i].flatten().double().numpy(), upper[i].flatten().double().numpy())
        best = lsq_linear(weight.double().numpy(), target[i].double().numpy(), box)
        optimum = (2 * best.cost) ** 0.5
        ours = float((encoder(found[i : i + 1]) - target[i]).norm())
        assert optimum * (1 - 1e-4) <= ours <= optimum * 1.01


def test_targets_that_are_not_features_are_refused() -> None:
    x = images()
    for y in (torch.zeros(4, dtype=torch.long), torch.zeros(3, 16)):
        with pytest.raises(InputError, match="y must be features"):
            feature_targeted(Features(torch.eye(16)), x, y, Threat("Linf", 0.1))
