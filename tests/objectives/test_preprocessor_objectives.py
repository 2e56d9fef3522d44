"""Objectives of preprocessors against formulas written out, on linear maps whose worst case is known."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from heirloom.objectives.adversarial_reconstruction import adversarial_reconstruction
from heirloom.objectives.defences import DEFENCES
from heirloom.objectives.distil import likeness, logit_each, painter, prototypes, student_each
from heirloom.objectives.feature_stability import feature_stability
from heirloom.objectives.objective import Batch, Objective
from heirloom.objectives.stability import stability

EPS = 0.1


def _batch(**changes: Any) -> Batch:
    """D(x) = x / 2, E(x) = 3 x; the attack adds or takes eps everywhere, whichever is worse."""
    x = torch.full((2, 1, 2, 2), 0.4)

    def half(images: Tensor) -> Tensor:
        return images / 2

    def forward(images: Tensor, other: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return half(images), images, images if other is None else other

    def attack(function: Any, reference: Tensor, each: Any) -> Tensor:
        darker, lighter = (each(function(x + step), reference) for step in (-EPS, EPS))
        return torch.where((lighter > darker).view(-1, 1, 1, 1), x + EPS, x - EPS)

    made: dict[str, Any] = {
        "x": x, "forward": forward, "embed": lambda images: images, "reconstruct": half,
        "seen": lambda images: 3 * half(images), "seen_of": lambda images: 3 * images,
        "features": lambda images: 3 * images, "attack": attack, "noisy": lambda: x, "weight": 0.0,
        "temperature": 0.5, "gaussian": lambda: x + 0.1,
    }  # fmt: skip
    return Batch(**{**made, **changes})


@pytest.mark.parametrize("name", [name for name, found in DEFENCES.items() if found.loss is not None])
def test_an_objective_reads_the_settings_that_it_says_it_reads(name: str) -> None:
    """``heirloom defend`` refuses the others: a setting of the batch that is looked at is one that has an effect."""
    read = set[str]()
    flat = {"embed": lambda images: images.flatten(1)}
    flat["forward"] = lambda x, other=None: (x / 2, x.flatten(1), (x if other is None else other).flatten(1))
    plain = _batch(**flat)
    means = {"weight": {"weight"}, "temperature": {"temperature"}, "noisy": {"radius"}, "gaussian": {"sigma"}}
    means["attack"] = {"radius", "attack_steps"}

    class Watched:
        def __getattr__(self, field: str) -> Any:
            read.update(means.get(field, set()))
            return getattr(plain, field)

    loss = DEFENCES[name].loss
    assert loss is not None
    loss(Watched())  # type: ignore[arg-type]
    assert read == set(DEFENCES[name].reads)


def test_adversarial_reconstruction_is_the_worst_error_against_the_clean_image() -> None:
    # D shrinks, so the worst input is the darker one: (0.3 / 2 - 0.4)^2
    losses = adversarial_reconstruction(_batch())
    assert float(losses["loss"]) == pytest.approx(0.25**2)
    # and with weight 2, twice the clean error (0.4 / 2 - 0.4)^2 more
    assert float(adversarial_reconstruction(_batch(weight=2.0))["loss"]) == pytest.approx(
        0.25**2 + 2 * 0.2**2
    )


def test_stability_is_the_clean_error_and_how_far_the_output_moves() -> None:
    losses = stability(_batch(weight=4.0))
    assert float(losses["moved"]) == pytest.approx((EPS / 2) ** 2)
    assert float(losses["loss"]) == pytest.approx(0.2**2 + 4 * (EPS / 2) ** 2)


def test_feature_stability_is_relative_to_the_features() -> None:
    losses = feature_stability(_batch(weight=2.0))
    # E(D(x')) = 3 (0.3 / 2) = 0.45 against E(x) = 1.2, over 1.2^2
    assert float(losses["features"]) == pytest.approx((0.75 / 1.2) ** 2)
    assert float(losses["loss"]) == pytest.approx((0.75 / 1.2) ** 2 + 2 * 0.25**2)


def test_prototypes_find_the_directions_that_are_there(generator: torch.Generator) -> None:
    directions = torch.eye(3, dtype=torch.float64)
    lengths = 0.5 + torch.rand(60, 1, generator=generator, dtype=torch.float64)
    points = directions.repeat(20, 1) * lengths + 0.01 * torch.randn(60, 3, generator=generator).double()
    found = prototypes(points, 3, torch.Generator().manual_seed(1))
    assert found.norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert (found @ directions).amax(0).min() > 0.999  # each direction has a centre of its own
    again = prototypes(points, 3, torch.Generator().manual_seed(1))
    assert torch.equal(found, again)


def test_student_loss_written_out(generator: torch.Generator) -> None:
    q, target = (torch.randn(4, 3, generator=generator).double() for _ in range(2))
    centres = functional.normalize(torch.randn(2, 3, generator=generator).double(), dim=1)
    scale = torch.tensor(2.0).double()
    p, s = (
        (10 * functional.cosine_similarity(f[:, None], centres[None], dim=2)).softmax(1) for f in (target, q)
    )
    expected = -(p * s.log()).sum(1) + (q - target).square().sum(1) / 2
    assert torch.allclose(student_each(q, target, centres, scale), expected)
    # it is least where the student says what the teacher says
    assert (student_each(target, target, centres, scale) < student_each(q, target, centres, scale)).all()


def test_logit_targets_are_the_frozen_heads_probabilities(generator: torch.Generator) -> None:
    logits, target = (torch.randn(4, 3, generator=generator).double() for _ in range(2))
    expected = -(target.softmax(1) * logits.softmax(1).log()).sum(1)
    assert torch.allclose(logit_each(logits, target), expected)
    assert (logit_each(target, target) < logit_each(logits, target)).all()


def test_the_painter_is_measured_by_what_the_model_says() -> None:
    q = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    assert float(painter(q, q)) == 0
    assert float(painter(torch.zeros(2, 2), q)) == pytest.approx(1)


@pytest.mark.parametrize("objective", DEFENCES.values(), ids=list(DEFENCES))
def test_every_objective_says_what_it_needs_costs_and_gives(objective: Objective) -> None:
    assert all((objective.title, objective.source, objective.cost, objective.wins, objective.fails))
    assert objective.needs_model == (objective.access == "images and model")
    assert DEFENCES[objective.name] is objective


def test_likeness_is_none_for_the_image_and_one_for_its_mean_colour() -> None:
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(likeness(x, x)) == 0
    mean = x.mean((0, 2, 3), keepdim=True).expand_as(x)
    assert float(likeness(mean, x)) == pytest.approx(1, rel=1e-5)
    # a chessboard of errors is seen at the finest of the three scales alone
    board = (torch.arange(8).view(-1, 1) + torch.arange(8)).remainder(2) * 2.0 - 1
    spread = float((x - mean).square().mean())
    assert float(likeness(x + 0.1 * board, x)) == pytest.approx(0.01 / spread / 3, rel=1e-4)
