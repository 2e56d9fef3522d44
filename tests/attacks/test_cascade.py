"""``cascade``: what AutoAttack takes, at a fifth of its passes at most; exact where the optimum is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat
from heirloom.attacks import misclassified
from heirloom.attacks.cascade import cascade
from heirloom.attacks.engine.campaign import Campaign
from heirloom.attacks.engine.passes import Counted
from heirloom.attacks.engine.rungs import persist, search_on
from heirloom.evaluation.verdicts import Evaluation, evaluate
from tests.attacks.small import Linear, digits
from tests.attacks.test_peers import network


def verdicts(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, attack: str) -> tuple[Tensor, int]:
    found: Evaluation = evaluate(model, (x, y), threat, [attack])
    passes = found.passes[attack]
    return found.correct[attack], passes.forward + passes.backward


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [("convolutional", "Linf", 0.15), ("normalised", "L2", 0.6), ("convolutional", "L1", 1.0)],
)
def test_not_above_autoattack_at_a_fifth_of_its_passes(name: str, norm: str, eps: float) -> None:
    model, (x, y) = network(name), digits()
    x, y, threat = x[1500:1535], y[1500:1535], Threat(norm, eps)  # type: ignore[arg-type]
    ours, passes = verdicts(model, x, y, threat, "cascade")
    theirs, theirs_passes = verdicts(model, x, y, threat, "autoattack")
    assert 5 < int(ours.sum()) <= int(theirs.sum()) < 30
    assert passes <= theirs_passes / 5


@pytest.mark.parametrize("dual", [("Linf", 1), ("L2", 2)])
def test_exact_on_linear_models(dual: tuple[str, int]) -> None:
    """A linear model in the middle of the pixel range: it falls where some margin over slope is below eps."""
    norm, order = dual
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 48, generator=generator)
    x = 0.4 + 0.2 * torch.rand(40, 3, 4, 4, generator=generator)
    model = Linear(weight, -x.flatten(1).mean(0) @ weight.T)
    logits = model(x)
    y = logits.argmax(1)
    gap = logits.gather(1, y[:, None]) - logits
    slope = torch.linalg.vector_norm(weight[y][:, None] - weight[None], order, dim=2).clamp_min(1e-9)
    radius = (gap / slope).scatter(1, y[:, None], torch.inf).amin(1)
    eps = float(radius.detach().median())
    found = cascade(model, x, y, Threat(norm, eps), generator=generator)  # type: ignore[arg-type]
    fell = misclassified(model(found), y)
    sure = (radius - eps).abs() > 1e-3 * eps
    assert torch.equal(fell[sure], (radius < eps)[sure])


class Rescaled(nn.Module):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.model(x)


def test_the_scale_of_the_logits_does_not_matter() -> None:
    model, (x, y) = network("convolutional"), digits()
    x, y, threat = x[1500:1524], y[1500:1524], Threat("Linf", 0.15)
    fell = []
    for factor in (2.0**-14, 1.0, 2.0**14):
        found = cascade(Rescaled(model, factor), x, y, threat, generator=torch.Generator().manual_seed(0))
        fell.append(misclassified(model(found), y))
    assert torch.equal(fell[0], fell[1])
    assert torch.equal(fell[2], fell[1])


class NoGradient(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(x)


def test_a_model_without_gradients_does_not_stand_by_that() -> None:
    model, (x, y) = network("convolutional"), digits()
    x, y, threat = x[1500:1512], y[1500:1512], Threat("Linf", 0.2)
    seen, _ = verdicts(model, x, y, threat, "cascade")
    blind, _ = verdicts(NoGradient(model), x, y, threat, "cascade")
    assert int(blind.sum()) <= int(seen.sum()) + 2 < 8


def test_passes_are_counted_by_image() -> None:
    model = Counted(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval())
    x = torch.rand(7, 1, 8, 8, requires_grad=True)
    (2 * model(x)).sum().backward()
    with torch.no_grad():
        model(x[:3])
    assert (model.passes.forward, model.passes.backward) == (10, 7)
    assert Counted(Linear(torch.ones(3, 4), torch.zeros(3))).weight.shape == (
        3,
        4,
    )  # attacks may ask for more


def test_a_resumed_evaluation_knows_its_passes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, (x, y) = network("convolutional"), digits()
    data, threat = (x[1500:1520], y[1500:1520]), Threat("Linf", 0.1)
    first = evaluate(model, data, threat, ["pma-3"], folder=tmp_path / "verdicts")
    again = evaluate(model, data, threat, ["pma-3"], folder=tmp_path / "verdicts", resume=True)
    assert first.passes == again.passes
    assert 0 < first.passes["pma-3"].backward <= 20 * 3


def near_the_boundary() -> tuple[Campaign, Tensor]:
    """Images of a linear model that stand at the best point by a hundredth of their margin, though eps suffices."""
    generator = torch.Generator().manual_seed(1)
    weight, x = torch.randn(2, 48, generator=generator), torch.full((6, 3, 4, 4), 0.5)
    model = Linear(weight, torch.zeros(2)).requires_grad_(False)
    logits = model(x)
    y = logits.argmax(1)
    slope = (weight[1 - y] - weight[y]).view_as(x)
    clean = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])).flatten()
    eps = 1.05 * float((clean / slope.abs().flatten(1).sum(1)).max())
    campaign = Campaign.of(model, x, y, Threat("Linf", eps), generator)
    towards = (0.99 * clean / slope.abs().flatten(1).sum(1)).view(-1, 1, 1, 1) * slope.sign()
    campaign.look(torch.arange(6), x + towards)
    return campaign, torch.arange(6)


def test_what_stands_by_next_to_nothing_is_searched_on_from_where_it_is() -> None:
    campaign, place = near_the_boundary()
    assert bool((campaign.left(place) < 0.02).all())
    before = campaign.best.point.clone()
    persist(campaign, place, queries=200, turns=5)
    assert bool(torch.isinf(campaign.best.value).all())  # misclassified, all
    fallen = campaign.best.point
    assert bool(misclassified(campaign.model(fallen), campaign.y).all())
    assert float((fallen - campaign.region.x).abs().max()) <= campaign.threat.eps * (1 + 1e-6)
    assert not torch.equal(before, fallen)


def test_a_search_that_does_not_lead_there_in_time_is_given_up() -> None:
    campaign, place = near_the_boundary()
    flat = Counted(NoGradient(Still(campaign.model)))
    campaign.model = flat
    persist(campaign, place, queries=50, turns=10)
    assert flat.passes.forward <= 6 * 52  # one turn, of 50 queries, a start and a look


def test_the_last_random_search_stops_where_its_gains_end() -> None:
    """``finish`` behind a part without a gradient: its Square ends after one turn where nothing moves."""
    campaign, place = near_the_boundary()
    still = Counted(NoGradient(Still(campaign.model)))
    campaign.model = still
    search_on(campaign, place, None, queries=100, turns=5)
    assert still.passes.forward <= 6 * 2 * 102  # of five turns the one from the start, and one to see no gain
    campaign, place = near_the_boundary()
    search_on(campaign, place, None, queries=400, turns=5)
    assert bool(torch.isinf(campaign.best.value).all())  # five turns from its own start do what they are for


class Still(nn.Module):
    """Answers as for the clean image, whatever is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(torch.full_like(x, 0.5))
