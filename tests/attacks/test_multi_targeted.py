"""Flat activations: what sign steps miss, and what fresh draws, fixed targets and a chosen start find."""

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError, Threat
from heirloom.attacks import margin, misclassified, multi_targeted, pgd, target_margin
from heirloom.attacks.named import named_attack

EPS = Threat("Linf", 0.1)


class Dormant(nn.Module):
    """Class 0 scores ``guard``; class 1 scores the number of pixels more than ``depth`` above 1/2, which is
    exactly flat below: the highest margin in the ball is pixels x (eps - depth) x 100 - guard."""

    def __init__(self, depth: float, guard: float) -> None:
        super().__init__()
        self.depth, self.guard = depth, guard

    def forward(self, x: Tensor) -> Tensor:
        raised = (x - 0.5 - self.depth).clamp_min(0).flatten(1).sum(1) * 100
        return torch.stack([torch.full_like(raised, self.guard), raised, raised - 50], 1)


def images(n: int = 4, side: int = 8) -> tuple[Tensor, Tensor]:
    return torch.full((n, 1, side, side), 0.5), torch.zeros(n, dtype=torch.long)


def attacked(redraw_flat: bool, depth: float = 0.05) -> Tensor:
    x, y = images()
    model = Dormant(depth, guard=0.0)
    generator = torch.Generator().manual_seed(0)
    x_adv = pgd(
        model, x, y, EPS, loss=margin, steps=40, step_size=0.02, redraw_flat=redraw_flat, generator=generator
    )
    assert EPS.distance(x_adv, x).max() <= EPS.eps
    return margin(model(x_adv), y)


def test_sign_steps_stay_where_the_gradient_is_zero_and_fresh_draws_do_not() -> None:
    optimum = 64 * 0.05 * 100
    # a random start wakes a quarter of the pixels (0.05 of 0.2); no step wakes another
    assert attacked(redraw_flat=False).max() < 0.45 * optimum
    # each of 40 draws wakes a pixel with chance 1/4: 0.75^40 = 1e-5 of the pixels stay
    assert attacked(redraw_flat=True).min() == pytest.approx(optimum, rel=1e-4)


def test_redrawing_changes_nothing_where_no_gradient_is_zero() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, dtype=torch.float32))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    x, y = images()
    found = [
        pgd(model, x, y, EPS, loss=margin, redraw_flat=redraw, generator=torch.Generator().manual_seed(1))
        for redraw in (False, True)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_redrawn_points_stay_in_the_ball(norm: str) -> None:
    threat = Threat(norm, 0.5)  # type: ignore[arg-type]
    x, y = images()
    x_adv = pgd(
        Dormant(0.01, 0.0), x, y, threat, redraw_flat=True, generator=torch.Generator().manual_seed(0)
    )
    assert threat.distance(x_adv, x).max() <= threat.eps


def test_a_chosen_start_is_used_and_projected() -> None:
    x, y = images()
    # only a start at the far side of the ball reaches the single live corner
    model = Dormant(0.0999, 0.0)
    x_adv = pgd(model, x, y, EPS, loss=margin, steps=1, start=x + 1.0)
    assert margin(model(x_adv), y).min() > 0
    assert EPS.distance(x_adv, x).max() <= EPS.eps


def test_target_margin_is_the_difference_of_two_logits() -> None:
    logits = torch.tensor([[1.0, 4.0, 9.0], [2.0, 0.0, -3.0]])
    pairs = torch.tensor([[0, 2], [0, 1]])
    assert target_margin(logits, pairs).tolist() == [8.0, -2.0]


class Lure(nn.Module):
    """The margin's best other class on the way (1) can never win; class 2, far behind at first, does."""

    def forward(self, x: Tensor) -> Tensor:
        level = (x - 0.5).flatten(1).mean(1) / 0.1  # -1 to 1 in the ball
        return torch.stack([torch.ones_like(level), 0.9 + 0.05 * level, -1.0 - 2.5 * level], 1)


def test_every_target_is_tried() -> None:
    x, y = images()
    model = Lure()
    alone = pgd(model, x, y, EPS, loss=margin, random_start=False, steps=20)
    assert not misclassified(model(alone), y).any()
    for until in (None, misclassified):
        x_adv = multi_targeted(model, x, y, EPS, until=until, generator=torch.Generator().manual_seed(0))
        assert misclassified(model(x_adv), y).all()
    assert margin(model(multi_targeted(model, x, y, EPS)), y).min() == pytest.approx(0.5, abs=1e-4)
    first_only = multi_targeted(model, x, y, EPS, targets=1, generator=torch.Generator().manual_seed(0))
    assert not misclassified(model(first_only), y).any()


def test_start_gets_each_examples_own_target() -> None:
    x, y = images()
    asked = []

    def start(images: Tensor, target: Tensor) -> Tensor:
        asked.append(target.unique().tolist())
        return images - 0.1

    multi_targeted(Lure(), x, y, EPS, start=start, steps=1)
    assert asked == [[1], [2]]


def test_targets_out_of_range_are_refused() -> None:
    x, y = images()
    with pytest.raises(InputError, match="targets must be from 1 to classes - 1 = 2, got 3"):
        multi_targeted(Lure(), x, y, EPS, targets=3)


def test_it_has_a_name() -> None:
    assert named_attack("multi-targeted-20").name == "multi-targeted-20"
    with pytest.raises(InputError):
        named_attack("multi-targeted-0")
