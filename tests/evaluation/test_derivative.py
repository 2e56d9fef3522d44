"""Differences of the loss along random directions tell a gradient that is another function's, however like it is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.audit.derivative import derivative
from heirloom.evaluation.audit.drawing import randomness
from heirloom.evaluation.audit.sample import sample_of
from heirloom.evaluation.audit.subject import Subject


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: float) -> Tensor:
        ctx.cosine = cosine
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Turned within pairs of pixels."""
        one, two = gradient.unflatten(3, (-1, 2)).unbind(4)
        c, s = ctx.cosine, (1 - ctx.cosine**2) ** 0.5
        return torch.stack([c * one - s * two, s * one + c * two], 4).flatten(3), None


class _Around(nn.Module):
    def __init__(self, cosine: float) -> None:
        super().__init__()
        self.cosine, self.net = cosine, nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(_Turned.apply(x, self.cosine))  # type: ignore[no-untyped-call, no-any-return]


def _subject(model: nn.Module, x: Tensor, eps: float = 0.1) -> Subject:
    y = torch.arange(len(x)) % 10
    return Subject(
        model.eval(), x, y, torch.arange(len(x)), threat=Threat("Linf", eps), seed=0, batch_size=64
    )


@pytest.mark.parametrize("cosine", [1.0, 0.8, 0.0])
def test_the_cosine_with_the_true_gradient_is_measured(cosine: float, generator: torch.Generator) -> None:
    torch.manual_seed(0)
    found = derivative(_subject(_Around(cosine), torch.rand(24, 1, 8, 8, generator=generator)))
    assert abs(found.cosine - cosine) < (1e-3 if cosine == 1 else 0.2)  # of 8 directions in 64
    assert found.foreign == 0 if cosine == 1 else found.foreign > 0.7


@pytest.mark.parametrize("eps", [0.3, 0.004])
def test_a_maximum_of_black_pixels_has_its_own_gradient(eps: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.MaxPool2d(2), nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    black = torch.zeros(24, 1, 16, 16)
    assert derivative(_subject(net, black, eps)).foreign < 0.1


def test_a_seed_of_rounded_pixels_is_seen_in_what_is_drawn() -> None:
    """Its jumps alone told 5 of 8 samples of 64 and 128 images; this is one of the others."""
    test = load_images("digits").test
    chosen = sample_of(128, 64, 0)
    found = randomness(_subject(broken.coarsely_seeded(), test.images[chosen], broken.THREAT.eps))
    assert found.verdict == "fail"
    assert found.evidence["redrawn"] > 0.5


def test_a_gradient_that_is_a_multiple_is_off_though_it_points_the_right_way(
    generator: torch.Generator,
) -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor, self.net = factor, nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.detach() + self.factor * (x - x.detach()))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    images = torch.rand(24, 1, 8, 8, generator=generator)
    for factor, off in ((1.0, 0.0), (1.2, 1.0)):
        found = derivative(_subject(Scaled(factor), images))
        assert found.cosine > 0.99
        assert found.foreign == 0
        assert abs(found.off - off) < 0.1


def test_what_is_seen_once_in_hundreds_of_draws_is_not_said_to_be_explained() -> None:
    class Seldom(nn.Module):
        """Draws at every call and never uses it here: the pass that differed has been."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10] + 0 * torch.rand(())

    subject = _subject(Seldom(), torch.rand(8, 1, 8, 8))
    assert randomness(subject).verdict == "pass"
    subject.__dict__["random"] = True
    assert "shows it seldom" in randomness(subject).cause
    silent = _subject(nn.Flatten(), torch.rand(8, 1, 8, 8))
    silent.__dict__["random"] = True
    assert randomness(silent).verdict == "skipped"
