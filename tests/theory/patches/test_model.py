"""Patch data: what Definition 2.2 says of every sample, and of many."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom import InputError
from heirloom.theory.patches.model import PatchDistribution, population, sample_patches

distributions = st.builds(
    PatchDistribution,
    classes=st.integers(2, 4),
    dimension=st.integers(8, 10),
    patches=st.integers(4, 12),
    robust_patches=st.integers(1, 3),
    alpha=st.floats(1.5, 5),
    beta=st.floats(0.2, 1.4),
    jitter=st.floats(0, 0.3),
    noise=st.just(0.0),
)


@given(distributions, st.integers(0, 2**31), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_patch_holds_its_classes_feature(
    distribution: PatchDistribution, seed: int, balanced: bool
) -> None:
    sample = sample_patches(distribution, 7, torch.Generator().manual_seed(seed), balanced=balanced)
    k, jitter = distribution.classes, distribution.jitter
    assert sample.x.shape == (7, distribution.patches, distribution.dimension)
    assert (sample.robust.sum(1) == distribution.robust_patches).all()
    mean = torch.where(sample.robust, distribution.alpha, distribution.beta)
    assert ((sample.strength / mean - 1).abs() <= jitter + 1e-5).all()
    # without noise a patch has one coordinate: y where it is robust, k + y where it is not
    place = sample.y[:, None] + k * ~sample.robust
    assert torch.allclose(sample.x.gather(2, place[..., None]).squeeze(2), sample.strength)
    assert (sample.x.count_nonzero(2) == 1).all()


def test_noise_has_the_stated_deviation_and_labels_are_uniform() -> None:
    distribution = PatchDistribution(noise=0.3)
    sample = sample_patches(distribution, 200, torch.Generator().manual_seed(0), balanced=False)
    noise = sample.x - sample.signal()
    # 336000 draws: the standard error of the deviation is 0.3 / sqrt(2 n) = 4e-4
    assert noise.std().item() == pytest.approx(0.3, abs=2e-3)
    # 40 expected a class, sd 5.7
    assert (sample.y.bincount(minlength=5) - 40).abs().max() < 23
    # every place holds the robust patch about as often: mean 200 / 140, Poisson
    assert sample.robust.sum(0).max() <= 9


def test_balanced_labels_and_reproducible_draws() -> None:
    distribution = PatchDistribution()
    first, again = (sample_patches(distribution, 25, torch.Generator().manual_seed(4)) for _ in range(2))
    assert first.y.bincount().tolist() == [5] * 5
    assert torch.equal(first.x, again.x)


def test_a_representative_keeps_one_kind_of_feature_and_the_noise() -> None:
    sample = sample_patches(PatchDistribution(), 10, torch.Generator().manual_seed(1))
    noise = sample.x - sample.signal()
    robust, dense = sample.representative("robust"), sample.representative("non-robust")
    assert torch.allclose(robust + dense, sample.x + noise, atol=1e-6)
    assert torch.allclose(robust[sample.robust], sample.x[sample.robust])
    assert torch.allclose(robust[~sample.robust], noise[~sample.robust], atol=1e-6)
    with pytest.raises(InputError, match="kind must be robust or non-robust, got dense"):
        sample.representative("dense")


def test_the_population_stands_for_noiseless_samples() -> None:
    distribution = PatchDistribution(dimension=10, jitter=0, noise=0)
    x, y, counts = population(distribution)
    sample = sample_patches(distribution, 5, torch.Generator().manual_seed(0))
    assert torch.equal(sample.y, y)
    assert torch.allclose((x * counts[:, None]).sum(1), sample.x.sum(1), atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"classes": 1}, "classes must be at least 2"),
        ({"dimension": 9}, "dimension must be at least 2 x classes = 10, got 9"),
        ({"robust_patches": 140}, "robust_patches must be from 1 to patches - 1 = 139"),
        ({"alpha": 0.0}, "alpha must be a number above 0"),
        ({"jitter": 1.0}, "jitter must be in"),
        ({"noise": -0.1}, "noise must be 0 or above"),
    ],
)
def test_impossible_distributions_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PatchDistribution(**wrong)  # type: ignore[arg-type]
