"""Predicted steps of feature growth against the descent itself."""

import pytest
import torch

from heirloom.theory.patches.growth import diagonal, early_rate, predicted_growth, takeover_step
from heirloom.theory.patches.model import PatchDistribution
from heirloom.theory.patches.training import (
    Batch,
    PatchTraining,
    descend,
    initial_networks,
    population_batch,
    train_networks,
)

NOISELESS = PatchDistribution(dimension=10, jitter=0, noise=0)


def double(runs: int) -> Batch:
    batch = population_batch(NOISELESS, runs)
    return Batch(batch.x.double(), batch.y, batch.counts.double(), batch.classes)


@pytest.mark.parametrize("rho", [20.0, 1.0])
@pytest.mark.parametrize("steps", [1, 60])
def test_lemma_5_1_is_exact_on_the_population(rho: float, steps: int) -> None:
    """In the polynomial and in the linear region, at the start and after it."""
    training = PatchTraining("none", steps, rho=rho, filters=8)
    weight = initial_networks(NOISELESS, training, [0, 1]).double()
    weight = train_networks(weight, double(2), training)
    predicted = predicted_growth(weight, double(2), training, NOISELESS)
    ends = diagonal(descend(weight, double(2), training), NOISELESS)
    for start, end, grown in zip(diagonal(weight, NOISELESS), ends, predicted, strict=True):
        assert torch.allclose(end - start, grown, atol=1e-12)
        assert grown.max() > 0


def test_lemma_5_2_is_exact_where_the_ascent_step_stays_along_one_feature() -> None:
    """Filters along u alone: other classes' slopes are 0 at class i's patches, so nothing is left out."""
    training = PatchTraining("margin", 1, eps=0.5)
    u = NOISELESS.features()[0].double()
    weight = (torch.tensor([0.5, 1.0, 2.0]).double()[None, :, None] * u[:, None])[None]
    predicted = predicted_growth(weight, double(1), training, NOISELESS)[0]
    start, end = (diagonal(w, NOISELESS)[0] for w in (weight, descend(weight, double(1), training)))
    # the other classes' filters can take nothing where the step pushes their feature only on patches
    # that hold none: their slope there is (eps gamma / rho)^2, so the probability alone sees them
    assert torch.allclose(end - start, predicted, rtol=1e-6, atol=1e-12)


def test_takeover_step_is_the_recursion() -> None:
    found = takeover_step(torch.tensor([0.2, 0.1, 0.0, -1.0]), 0.05, 1.0, most=1000)
    x, steps = 0.2, 0
    while x < 1:
        x, steps = x + 0.05 * x**2, steps + 1
    assert found[0] == steps
    assert found[1] > 2 * found[0]  # from half the start it takes more than twice as long
    assert found[2:].tolist() == [1000, 1000]


def test_the_takeover_is_predicted_from_the_initial_weights() -> None:
    training = PatchTraining("none", 150, filters=60)
    weight = initial_networks(NOISELESS, training, [0, 1, 2])
    start = diagonal(weight, NOISELESS)[1].amax(-1)
    predicted = takeover_step(start, early_rate(training, NOISELESS, robust=False), 1.0)
    first = torch.full(predicted.shape, -1)

    def record(step: int, weight: torch.Tensor) -> None:
        above = (diagonal(weight, NOISELESS)[1].amax(-1) >= 1) & (first < 0)
        first[above] = step

    train_networks(weight, population_batch(NOISELESS, 3), training, record, every=1)
    assert (first > 0).all()
    assert ((first - predicted).abs() <= 0.05 * predicted).all()
