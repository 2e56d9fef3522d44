"""EOT averages draws; BPDA gives a part without gradient another's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError, Threat
from heirloom.attacks import BPDA, EOT, apgd, misclassified, pgd, square
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import cross_entropy, dlr, margin, targeted_dlr
from tests.attacks.small import Linear


class Noisy(nn.Module):
    """Logits with additive noise of standard deviation 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits + torch.randn_like(logits)


class Quantise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


def model(seed: int = 0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(3, 16, generator=generator), torch.zeros(3))


def test_eot_averages_draws() -> None:
    x = torch.rand(200, 1, 4, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = EOT(Noisy(model()), 25)(x) - model()(x)
        probabilities = EOT(Noisy(model()), 25, average="probabilities")(x).exp()
    # the mean of 25 draws has standard deviation 1/5, here over 600 values
    assert noise.std().item() == pytest.approx(0.2, rel=0.1)
    assert torch.allclose(probabilities.sum(1), torch.ones(200), atol=1e-5)
    assert not EOT(Noisy(model()).eval()).training


def test_draws_average_the_gradient_too() -> None:
    x, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = torch.stack([input_gradient(Noisy(model()), x, y, cross_entropy)[0] for _ in range(40)])
        mean, _, output = input_gradient(Noisy(model()), x, y, cross_entropy, draws=40)
    spread = one.std(0) / 40**0.5
    assert ((mean - one.mean(0)).abs() <= 6 * spread * 2**0.5 + 1e-6).all()
    assert (output - model()(x)).abs().max() <= 6 / 40**0.5


def test_bpda_makes_a_quantiser_attackable() -> None:
    plain = model(1)
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    broken = nn.Sequential(Quantise(), plain).eval()
    y = broken(x).argmax(1)
    threat = Threat("Linf", 0.2)

    def robust(attacked: nn.Module) -> float:
        x_adv = pgd(attacked, x, y, threat, random_start=False)
        return float((~misclassified(broken(x_adv), y)).float().mean())

    assert robust(broken) == 1.0  # no gradient passes the rounding
    through = nn.Sequential(BPDA(Quantise()), plain).eval()
    assert torch.equal(through(x), broken(x))
    assert robust(through) < 0.7
    with pytest.raises(InputError, match="backward must be of the part's output shape"):
        BPDA(Quantise(), backward=lambda image: image.flatten(1))(x)


def test_dlr_ignores_the_scale_of_logits_and_its_substitutes() -> None:
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    y, pairs = torch.arange(20) % 6, torch.stack([torch.arange(20) % 6, (torch.arange(20) + 1) % 6], 1)
    assert torch.allclose(dlr(logits, y), dlr(1000 * logits, y), rtol=1e-4)
    assert torch.allclose(targeted_dlr(logits, pairs), targeted_dlr(1000 * logits, pairs), rtol=1e-4)
    assert torch.equal(dlr(logits, y) >= 0, misclassified(logits, y))
    # by the paper's formula, written out for one example
    z, top = logits[0], logits[0].sort(descending=True).values
    expected = -(z[0] - max(z[1:])) / (top[0] - top[2])
    assert dlr(logits, y)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    two = logits[:, :2]
    assert torch.equal(dlr(two, y % 2), margin(two, y % 2))
    assert torch.isfinite(targeted_dlr(logits[:, :3], pairs % 3)).all()


def test_rand_cascade_beats_one_draw_on_noise() -> None:
    """With 20 draws a step the attack sees through noise that hides the gradient."""
    noisy, x = Noisy(model(3)), torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    y, threat = model(3)(x).argmax(1), Threat("Linf", 0.05)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x_adv = apgd(noisy, x, y, threat, steps=20, eot=20, generator=torch.Generator().manual_seed(0))
    sharp = pgd(model(3), x, y, threat, steps=50, generator=torch.Generator().manual_seed(0))
    gained = (margin(model(3)(x_adv), y) - margin(model(3)(x), y)).mean()
    possible = (margin(model(3)(sharp), y) - margin(model(3)(x), y)).mean()
    assert gained > 0.8 * possible


class Counted(Linear):
    asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return super().forward(x)


def test_square_does_not_ask_what_it_knows() -> None:
    """Black pixels that may only get darker: every proposal leaves the picture as it was."""
    weight = torch.stack([torch.ones(25), torch.zeros(25)])
    one = Counted(weight, torch.tensor([1.0, 0.0])).eval()
    # one value allowed for each pixel (eps far below float32's resolution at 1): nothing can change
    x, y = torch.ones(3, 1, 5, 5), torch.zeros(3, dtype=torch.long)
    square(one, x, y, Threat("Linf", 1e-12), queries=50, generator=torch.Generator().manual_seed(0))
    assert one.asked == 3
