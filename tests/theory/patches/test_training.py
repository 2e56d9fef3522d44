"""Training of patch networks against a straight-line loop with automatic differentiation."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heirloom import InputError
from heirloom.theory.patches.curves import Curves, clean_correct, detect_phases, robust_correct
from heirloom.theory.patches.model import PatchDistribution, sample_patches
from heirloom.theory.patches.network import PatchCNN
from heirloom.theory.patches.training import (
    OBJECTIVES,
    Batch,
    PatchTraining,
    initial_networks,
    population_batch,
    sampled_batches,
    train_networks,
)
from heirloom_recipes.patches.phases import noiseless_run, noisy_run

NOISELESS = PatchDistribution(patches=40, dimension=10, jitter=0, noise=0)


def straight_line(weight: Tensor, x: Tensor, y: Tensor, training: PatchTraining) -> Tensor:
    """Sections 2.4 and 2.5 as they are written, one point set, all P patches, autograd."""
    network = PatchCNN(weight, rho=float(training.rho), q=training.q)
    for _ in range(training.steps):
        points = x
        if training.objective != "none":
            moved = x.clone().requires_grad_()
            scores = network(moved)
            true = scores.gather(1, y[:, None]).squeeze(1)
            if training.objective == "margin":
                goal = scores.scatter(1, y[:, None], float("-inf")).amax(1) - true
            elif training.objective == "cross-entropy":
                goal = functional.cross_entropy(scores, y, reduction="none")
            else:
                goal = -true
            (gradient,) = torch.autograd.grad(goal.sum(), moved)
            step = float(training.ascent_step) * gradient
            points = x + step.clamp(-float(training.eps), float(training.eps))
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(points), y), network.weight)
        with torch.no_grad():
            network.weight -= training.learning_rate * gradient
    return network.weight.detach()


@pytest.mark.parametrize("objective", ["none", *OBJECTIVES])
def test_both_engines_are_the_straight_line_loop_at_zero_noise(objective: str) -> None:
    """The condensed population, the full samples and the oracle agree to 1e-5 after 120 steps."""
    training = PatchTraining(objective, 120, filters=6, ascent_step=8000.0, deviation=0.3)
    seeds = [0, 1]
    start = initial_networks(NOISELESS, training, seeds).double()
    batch = population_batch(NOISELESS, 2)
    condensed = train_networks(start, _double(batch), training)
    (full,) = sampled_batches(NOISELESS, (10,), torch.Generator().manual_seed(0))
    for run in range(2):
        sampled = train_networks(start[run : run + 1], _double(full), training)
        oracle = straight_line(start[run], full.x[0].double(), full.y, training)
        # the ascent step of 8000 amplifies float64's rounding from step to step
        assert (sampled[0] - oracle).abs().max() < 1e-6
        assert (condensed[run] - sampled[0]).abs().max() < 1e-5
        assert (oracle - start[run]).abs().max() > 0.1  # something was learned


def test_the_noisy_engine_is_the_straight_line_loop_too() -> None:
    distribution = PatchDistribution(patches=30)
    training = PatchTraining("margin", 60, filters=6, ascent_step=8000.0, deviation=0.3)
    start = initial_networks(distribution, training, [3]).double()
    sample = sample_patches(distribution, 12, torch.Generator().manual_seed(1), balanced=False)
    batch = Batch(sample.x[None].double(), sample.y, torch.ones(1, 30).double(), 5)
    oracle = straight_line(start[0], sample.x.double(), sample.y, training)
    assert (train_networks(start, batch, training)[0] - oracle).abs().max() < 1e-8


def _double(batch: Batch) -> Batch:
    return Batch(batch.x.double(), batch.y, batch.counts.double(), batch.classes)


def test_networks_trained_together_are_those_trained_alone() -> None:
    seeds, eps = [0, 1, 2], torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    together = PatchTraining("margin", 40, eps=eps, rho=torch.tensor([5.0, 20.0, 40.0])[:, None, None])
    start = initial_networks(NOISELESS, together, seeds)
    found = train_networks(start, population_batch(NOISELESS, 3), together)
    for run, (radius, rho) in enumerate([(0.4, 5.0), (0.5, 20.0), (0.6, 40.0)]):
        alone = PatchTraining("margin", 40, eps=radius, rho=rho)
        expected = train_networks(start[run : run + 1], population_batch(NOISELESS, 1), alone)
        assert torch.allclose(found[run], expected[0], atol=1e-4)


def test_ties_are_errors() -> None:
    batch, training = population_batch(NOISELESS, 1), PatchTraining()
    blank = torch.zeros(1, 5, 2, 10)
    assert not clean_correct(blank, batch, training).any()
    assert not robust_correct(blank, batch, training).any()


def curves(clean: list[float], robust: list[float], gap: list[float]) -> Curves:
    steps = torch.arange(len(clean)) * 10
    column = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (clean, robust, gap))
    c, r, g = column
    return Curves(steps, c, r, 0.5 + g, torch.full_like(g, 0.5))


def test_the_rule_that_finds_the_phases() -> None:
    good = curves([0.2, 1, 1, 1, 1, 1], [0, 0, 0, 0.4, 1, 1], [0.1, -0.1, -0.1, 0.1, 0.2, 0.3])
    phases = detect_phases(good, 0)
    assert (phases.clean, phases.overtaken, phases.robust, phases.robust_at_clean) == (10, 30, 40, 0)
    assert phases.in_order
    falls = curves([0.2, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0.8], [0.1, -0.1, -0.1, 0.1, 0.2, 0.3])
    assert detect_phases(falls, 0).robust is None
    early = curves([0.2, 1, 1, 1, 1, 1], [0, 0.2, 0.4, 0.4, 1, 1], [0.1, -0.1, -0.1, 0.1, 0.2, 0.3])
    assert not detect_phases(early, 0).in_order
    never = curves([0.2, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0.1, 0.1, 0.1, 0.1, 0.2, 0.3])
    assert detect_phases(never, 0).overtaken == 0
    assert not detect_phases(never, 0).in_order


@pytest.mark.parametrize(("objective", "steps", "within"), [("none", 300, 1e-10), ("margin", 200, 1e-5)])
def test_both_engines_agree_at_the_default_setting(objective: str, steps: int, within: float) -> None:
    """Beyond step 240 the margin's target flips between ties and rounding grows (docs/patches.md)."""
    distribution = PatchDistribution(dimension=10, jitter=0, noise=0)
    training = PatchTraining(objective, steps)
    start = initial_networks(distribution, training, [0]).double()
    condensed = train_networks(start, _double(population_batch(distribution, 1)), training)
    (full,) = sampled_batches(distribution, (5,), torch.Generator().manual_seed(0))
    assert (condensed - train_networks(start, _double(full), training)).abs().max() < within


@pytest.mark.slow
def test_twenty_seeds_without_noise_show_both_trainings() -> None:
    """What the paper says of Figure 3, on the exact population: 18 of 20 where 400 seeds gave 91 %
    (docs/patches.md); these 20 are fixed."""
    seeds = list(range(20))
    distribution = PatchDistribution(dimension=10, jitter=0, noise=0)
    standard = noiseless_run(PatchTraining("none", 300), seeds, distribution, every=50)
    assert (standard.curves.clean[-1] == 1).all()
    assert standard.curves.robust[-1].mean() < 0.1
    adversarial = noiseless_run(PatchTraining("margin", 1200), seeds, distribution, every=10)
    assert int(adversarial.ends_robust.sum()) >= 18
    assert sum(phases.in_order for phases in adversarial.phases) >= 16


@pytest.mark.slow
def test_noisy_data_show_both_trainings() -> None:
    standard = noisy_run(PatchTraining("none", 300), [0], every=100)
    adversarial = noisy_run(PatchTraining("margin", 700), [0], every=50)
    assert standard.curves.clean[-1] == 1
    assert standard.curves.robust[-1] == 0
    assert adversarial.curves.robust[-1] >= 0.95
    assert adversarial.phases[0].in_order


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"objective": "loss"},
            "objective must be one of none, margin, cross-entropy, true-score, got loss",
        ),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"rho": -1.0}, "rho must be above 0"),
    ],
)
def test_impossible_trainings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PatchTraining(**wrong)  # type: ignore[arg-type]
