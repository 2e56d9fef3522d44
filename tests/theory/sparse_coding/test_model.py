"""The sparse coding model against its own description: moments in closed form, views, the dictionary."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from heirloom import InputError
from heirloom.theory.sparse_coding.model import (
    SparseCoding,
    class_targets,
    random_dictionary,
    regression_targets,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_features_have_the_stated_distribution() -> None:
    data, n = SparseCoding(d=100, k=10), 4000
    x = data.features(n, generator())
    active = x != 0
    count = n * data.d
    spread = math.sqrt(0.1 * 0.9 / count)
    assert active.double().mean().item() == pytest.approx(0.1, abs=5 * spread)
    size = x[active].abs().double()
    assert size.min().item() >= 1 / math.sqrt(10) - 1e-6
    assert size.max().item() <= 1
    root = math.sqrt(10)
    mean = 2 * quad(lambda e: min(1, (1 + e) / root) * norm.pdf(e), 0, 10)[0]
    assert size.mean().item() == pytest.approx(mean, abs=5 * size.std().item() / math.sqrt(len(size)))
    # symmetric signs, and no two coordinates tied
    positive = (x[active] > 0).double().mean().item()
    assert positive == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(size)))
    both = (active[:, 0] & active[:, 1]).double().mean().item()
    assert both == pytest.approx(0.01, abs=5 * math.sqrt(0.01 * 0.99 / n))


@pytest.mark.parametrize(("noise", "total"), [("zeta^2/d", 0.5), ("zeta^2", 0.5 * math.sqrt(200))])
def test_noise_has_the_stated_size(noise: str, total: float) -> None:
    data = SparseCoding(d=200, k=3, zeta=0.5, noise=noise)  # type: ignore[arg-type]
    squared = data.xi(500, generator()).double().square().sum(1)
    # a scaled chi-square with d degrees of freedom: relative spread sqrt(2 / d) each
    assert squared.mean().item() == pytest.approx(total**2, rel=5 * math.sqrt(2 / 200 / 500))


def test_dictionary_is_orthogonal_and_has_no_preferred_sign() -> None:
    M = random_dictionary(60, generator())
    assert torch.allclose(M @ M.T, torch.eye(60), atol=1e-5)
    # entries of a Haar matrix have mean 0 and variance 1 / d; without the sign fix QR favours one sign
    diagonals = torch.cat([random_dictionary(10, generator(seed)).diagonal() for seed in range(300)])
    assert abs(diagonals.mean().item()) < 5 * math.sqrt(0.1 / len(diagonals))


def test_views_share_features_as_their_labels_say() -> None:
    data = SparseCoding(d=40, k=4, zeta=0.0)
    x, M = data.features(200, generator(1)), random_dictionary(40, generator(2))
    z, similar, dissimilar = data.views(x, M, generator(3))
    assert torch.allclose(z @ M, x, atol=1e-5)
    assert torch.equal(z, similar)
    partner = torch.cdist(dissimilar @ M, x).argmin(1)
    assert torch.equal(torch.sort(partner).values.unique(), torch.arange(200)) or len(partner.unique()) > 190
    noisy = SparseCoding(d=40, k=4, zeta=0.3)
    first, second, third = noisy.views(x, None, generator(4))
    noises = [first - x, second - x]
    assert abs(torch.corrcoef(torch.stack([n.flatten() for n in noises]))[0, 1].item()) < 0.06
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_targets_follow_from_the_code() -> None:
    x = torch.full((20_000, 2), 0.5)
    theta = torch.tensor([1.0, 0.6])
    y = regression_targets(x, theta, 0.1, generator())
    assert y.mean().item() == pytest.approx(0.8, abs=5 * 0.1 / math.sqrt(20_000))
    assert y.std().item() == pytest.approx(0.1, rel=0.05)
    labels = class_targets(x, theta, generator())
    assert set(labels.tolist()) == {-1.0, 1.0}
    probability = 1 / (1 + math.exp(-0.8))
    assert (labels > 0).double().mean().item() == pytest.approx(probability, abs=5 * 0.5 / math.sqrt(20_000))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"d": 1}, "d must be at least 2"),
        ({"d": 10, "k": 10}, "k must be above 0 and below d = 10"),
        ({"zeta": -1.0}, "zeta must be at least 0"),
        ({"noise": "white"}, "noise must be one of"),
    ],
)
def test_wrong_settings_are_told(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SparseCoding(**options)  # type: ignore[arg-type]


def test_same_seed_same_draws_and_global_state_untouched() -> None:
    before = torch.get_rng_state()
    data = SparseCoding(d=20, k=2)
    assert torch.equal(data.features(10, generator(7)), data.features(10, generator(7)))
    assert torch.equal(torch.get_rng_state(), before)
