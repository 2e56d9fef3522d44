"""The patch attack against enumeration, and the general engine with the same start against both."""

import pytest
import torch
from torch import Tensor

from heirloom import InputError, Threat
from heirloom.attacks import misclassified, multi_targeted
from heirloom.theory.patches.attack import multi_targeted_margins, robustly_correct, strongest_filter
from heirloom.theory.patches.enumeration import enumerate_margins
from heirloom.theory.patches.model import PatchDistribution, population, sample_patches
from heirloom.theory.patches.network import PatchCNN, PatchPixels, hand_built
from heirloom.theory.patches.training import PatchTraining, initial_networks, population_batch, train_networks
from heirloom_recipes.patches.attack_table import SCALE, filter_start

SETTING = PatchDistribution(dimension=10, jitter=0, noise=0)
EPS, RHO = 0.55, 20.0


@pytest.fixture(scope="module")
def networks() -> Tensor:
    """Six seeds on their way through adversarial training, four records each, and standard ones: (30, k, m, d)."""
    found = []
    for objective, steps, kept in (("margin", 450, (200, 300, 400, 450)), ("none", 300, (300,))):
        training = PatchTraining(objective, steps)
        start = initial_networks(SETTING, training, list(range(6)))

        def keep(step: int, weight: Tensor, kept: tuple[int, ...] = kept) -> None:
            if step in kept:
                found.append(weight)

        train_networks(start, population_batch(SETTING, 6), training, keep, every=50)
    return torch.cat(found)


def test_verdicts_equal_those_of_enumeration(networks: Tensor) -> None:
    x, y, counts = population(SETTING)
    margins, patches = multi_targeted_margins(
        networks, x.expand(len(networks), -1, -1, -1), y, counts[None], EPS, rho=RHO
    )
    assert ((patches - x[None, :, None]).abs() <= EPS + 1e-6).all()
    standing = robustly_correct(margins)
    assert 0.1 < standing.double().mean() < 0.9  # both verdicts occur
    for run, weight in enumerate(networks):
        gold = enumerate_margins(weight, x, y, counts, EPS, rho=RHO)
        assert torch.equal(standing[run], ~gold.attackable())
        assert (margins[run] <= gold.upper + 1e-2).all()


def test_the_patches_reach_the_margins_that_are_claimed(networks: Tensor) -> None:
    x, y, counts = population(SETTING)
    weight = networks[:1]
    margins, patches = multi_targeted_margins(weight, x[None], y, counts[None], EPS, rho=RHO)
    network = PatchCNN(weight[0], rho=RHO)
    for number in range(4):
        once, often = patches[0, :, number, :1], patches[0, :, number, 1:]
        logits = network(torch.cat([once, often.expand(-1, 139, -1)], 1))
        target = (y + number + 1) % 5
        rows = torch.arange(5)
        assert torch.allclose(logits[rows, target] - logits[rows, y], margins[0, :, number], atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "gamma", "robust"),
    [
        ("non-robust", 1.0, False),
        ("robust", 3.0, True),
        ("robust", 100.0, False),
    ],
)
def test_flat_networks_do_not_fool_it(kind: str, gamma: float, robust: bool) -> None:
    x, y, counts = population(SETTING)
    weight = hand_built(SETTING, kind, gamma, 3)[None]
    margins, _ = multi_targeted_margins(weight, x[None], y, counts[None], 0.52, rho=RHO)
    assert robustly_correct(margins).tolist() == [[robust] * 5]


def test_the_image_engine_agrees_when_it_starts_at_the_strongest_filter(networks: Tensor) -> None:
    sample = sample_patches(SETTING, 5, torch.Generator().manual_seed(0))
    x, y, counts = population(SETTING)
    threat = Threat("Linf", EPS / SCALE)
    for weight in networks[::5]:
        model = PatchPixels(PatchCNN(weight, rho=RHO), SCALE)
        images = model.pixels(sample.x)
        x_adv = multi_targeted(
            model,
            images,
            y,
            threat,
            steps=10,
            step_size=threat.eps / 2,
            until=misclassified,
            start=filter_start(model, threat.eps),
            generator=torch.Generator().manual_seed(0),
        )
        gold = enumerate_margins(weight, x, y, counts, EPS, rho=RHO)
        assert torch.equal(misclassified(model(x_adv), y), gold.attackable())


def test_runs_may_differ_in_eps_and_rho(networks: Tensor) -> None:
    x, y, counts = population(SETTING)
    chosen, points = networks[:3], x.expand(3, -1, -1, -1)
    eps, rho = torch.tensor([0.3, 0.5, 0.7]), torch.tensor([10.0, 20.0, 30.0])
    together, _ = multi_targeted_margins(
        chosen, points, y, counts[None], eps[:, None, None], rho=rho[:, None, None]
    )
    for run in range(3):
        alone, _ = multi_targeted_margins(
            chosen[run : run + 1], x[None], y, counts[None], eps[run].item(), rho=rho[run].item()
        )
        assert torch.allclose(alone[0], together[run], rtol=1e-4, atol=1e-4)


def test_the_strongest_filter_is_the_one_that_can_reach_highest() -> None:
    filters = torch.tensor([[[3.0, 0.0], [-2.5, 2.5]]])  # reach at 0: 3 eps, 5 eps
    x = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]])
    assert strongest_filter(filters, x, 0.5).tolist() == [[[-2.5, 2.5], [3.0, 0.0]]]


def test_no_steps_are_refused() -> None:
    x, y, counts = population(SETTING)
    with pytest.raises(InputError, match="steps must be at least 1"):
        multi_targeted_margins(torch.zeros(1, 5, 1, 10), x[None], y, counts[None], 0.1, rho=1.0, steps=0)
