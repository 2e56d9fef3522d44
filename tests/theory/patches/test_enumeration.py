"""Enumeration: both bounds against closed forms, random search and each other."""

import pytest
import torch

from heirloom import InputError
from heirloom.theory.patches.bounds import non_robust_only_margin, robust_only_margin
from heirloom.theory.patches.enumeration import enumerate_margins
from heirloom.theory.patches.model import PatchDistribution, population
from heirloom.theory.patches.network import hand_built, patch_logits

SETTING = PatchDistribution(classes=3, dimension=6, jitter=0, noise=0)


@pytest.mark.parametrize("gamma", [0.5, 3.0, 12.0, 40.0])
@pytest.mark.parametrize("eps", [0.3, 0.52, 0.7])
@pytest.mark.parametrize("kind", ["robust", "non-robust"])
def test_hand_built_networks_have_their_closed_form(kind: str, eps: float, gamma: float) -> None:
    x, y, counts = population(SETTING)
    weight = hand_built(SETTING, kind, gamma, filters=2)
    bounds = enumerate_margins(weight.double(), x.double(), y, counts, eps, rho=20.0)
    closed = robust_only_margin if kind == "robust" else non_robust_only_margin
    strength = SETTING.alpha if kind == "robust" else SETTING.beta
    expected = -2 * closed(gamma, strength, eps, 140, 1, rho=20.0)  # two filters a class
    assert torch.allclose(bounds.lower.double(), torch.full((3, 2), float(expected)).double(), rtol=1e-5)
    assert torch.allclose(bounds.upper, bounds.lower, rtol=1e-4, atol=1e-4)
    assert bounds.attackable().all() == (expected >= 0)
    assert bounds.certified().all() == (expected < 0)


def test_no_point_of_the_ball_beats_the_upper_bound_and_one_reaches_the_lower() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, 6, generator=generator)
    x, y, counts = population(SETTING)
    eps, rho = 0.6, 2.0
    bounds = enumerate_margins(weight, x, y, counts, eps, rho=rho)
    assert (bounds.upper >= bounds.lower - 1e-4).all()
    best = torch.full_like(bounds.lower, -torch.inf)
    for _ in range(300):
        # the margin is a sum over patches: take each patch's best draw by itself
        delta = eps * (2 * torch.rand(200, 3, 2, 6, generator=generator) - 1)
        delta[:100] = eps * delta[:100].sign()
        points = (x + delta).flatten(0, 1)
        for step in (1, 2):
            by_patch = []
            for patch in (0, 1):
                one = points[:, patch : patch + 1]
                logits, _ = patch_logits(weight[None], one[None], torch.ones(1, 1), rho)
                scores = logits[0].view(200, 3, 3)
                rows = torch.arange(3)
                by_patch.append((scores[:, rows, (y + step) % 3] - scores[:, rows, y]).amax(0))
            found = by_patch[0] * counts[0] + by_patch[1] * counts[1]
            best[:, step - 1] = best[:, step - 1].maximum(found)
    assert (best <= bounds.upper + 1e-3).all()
    # 30000 draws of the 64 corners, patch by patch: the best corner is among them
    assert (best >= bounds.lower - 1e-3 * bounds.lower.abs()).all()


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="dimension must be at most 14, got 15"):
        enumerate_margins(
            torch.zeros(2, 1, 15), torch.zeros(1, 2, 15), torch.tensor([0]), torch.ones(2), 0.1, rho=1.0
        )
