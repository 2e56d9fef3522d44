"""Planted defences whose gradient is lost or wrong: no numbers, saturation, votes, rounding, custom backward."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.images import load_images
from heirloom.evaluation.broken.base import clean_net
from heirloom.evaluation.broken.inconsistent import Around
from heirloom.evaluation.broken.modules import Quantise, Scale
from heirloom.models.defended import Defended


class _NanGradients(Around):
    def forward(self, x: Tensor) -> Tensor:
        black = (x - x.clamp(0, 1)).flatten(1).sum(1, keepdim=True)  # always 0, where a root has no slope
        return self.network(x) + black.abs().sqrt()


class _Float16Overflow(Around):
    def forward(self, x: Tensor) -> Tensor:
        powers = self.network(x).half().exp()  # beyond 65504 from a logit of 11.1 on
        return (powers / powers.sum(1, keepdim=True)).float().clamp_min(1e-9).log()


class _SaturatedSigmoid(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.sigmoid((x - 0.5) * 1e5))


class _ArgmaxLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return 10.0 * functional.one_hot(self.network(x).argmax(1), 10)


class _NearestNeighbourVote(nn.Module):
    images: Tensor
    labels: Tensor

    def __init__(self, neighbours: int = 5) -> None:
        super().__init__()
        train = load_images("digits").train
        self.neighbours = neighbours
        self.register_buffer("images", train.images.flatten(1))
        self.register_buffer("labels", train.labels)

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.flatten(1), self.images).topk(self.neighbours, largest=False).indices
        return functional.one_hot(self.labels[nearest], 10).float().sum(1)


class _StraightThroughWithStops(Around):
    def forward(self, x: Tensor) -> Tensor:
        inside = x * ((x > 0.3) & (x < 0.7))  # outside: the value passes, the gradient does not
        return self.network(inside + (Quantise(9)(x) - inside).detach())


class _NumpyResize(Around):
    def forward(self, x: Tensor) -> Tensor:
        pixels = x.detach().cpu().numpy()
        half = (pixels[..., 1:, :] + pixels[..., :-1, :]) / 2
        back = torch.from_numpy((half[..., 1:, :] + half[..., :-1, :]) / 2)
        return self.network(functional.pad(back, (0, 0, 1, 1)).to(x))


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class _ReversedGradient(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(_Reverse.apply(x))


class CounterAttack(nn.Module):
    """Before classifying, moves the image inside a ball so that its features leave those of the image as given.

    A preprocessor of the kind published for frozen vision-language encoders since 2025 (Xing et al., "CLIP is strong
    enough to fight back: test-time counterattacks", CVPR 2025): the encoder itself, in ``steps`` ascents of the
    distance between features, is the defence. Nothing is trained.
    """

    def __init__(self, encoder: nn.Module, eps: float = 0.15, steps: int = 4) -> None:
        super().__init__()
        self.encoder, self.eps, self.steps = encoder, eps, steps

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            given = self.encoder(x).detach()
            delta = torch.zeros_like(x) + 0.01 * torch.sin(
                torch.arange(x[:1].numel(), device=x.device).view_as(x[:1])
            )
            for _ in range(self.steps):
                delta = delta.detach().requires_grad_()
                away = (self.encoder(x.detach() + delta) - given).square().sum()
                (gradient,) = torch.autograd.grad(away, delta)
                delta = (delta + 2 * self.eps / self.steps * gradient.sign()).clamp(-self.eps, self.eps)
        return (x + delta.detach()).clamp(0, 1)


def nan_gradients() -> nn.Module:
    """A square root at 0: its value is 0, its gradient no number, which attacks take for zero."""
    return _NanGradients().eval()


def float16_overflow() -> nn.Module:
    """A softmax in float16 whose exponentials overflow."""
    return _Float16Overflow().eval()


def saturated_sigmoid() -> nn.Module:
    """Pixels through a sigmoid so steep that it is 0 or 1."""
    return _SaturatedSigmoid().eval()


def high_temperature() -> nn.Module:
    """Logits times 1e-9: cross-entropy is the same number everywhere."""
    return nn.Sequential(deepcopy(clean_net()), Scale(1e-9)).eval()


def argmax_logits() -> nn.Module:
    """The decision in place of the logits."""
    return _ArgmaxLogits().eval()


def nearest_neighbour_vote() -> nn.Module:
    """The votes of the five nearest training images."""
    return _NearestNeighbourVote().eval()


def grey_levels() -> nn.Module:
    """Pixels rounded to 256 levels, as an image file has them."""
    undefended = clean_net()
    assert isinstance(undefended, Defended)
    return Defended(Quantise(256), undefended.encoder, undefended.head).eval()


def straight_through_with_stops() -> nn.Module:
    """Rounding with a straight-through gradient that stops for dark and light pixels."""
    return _StraightThroughWithStops().eval()


def numpy_resize() -> nn.Module:
    """A smoothing in NumPy, outside autograd."""
    return _NumpyResize().eval()


def reversed_gradient() -> nn.Module:
    """A backward pass with the wrong sign."""
    return _ReversedGradient().eval()


def counter_attack() -> nn.Module:
    """A counter-attack at test time: the image moves to where the frozen encoder's features flee."""
    undefended = clean_net()
    assert isinstance(undefended, Defended)
    return Defended(CounterAttack(undefended.encoder), undefended.encoder, undefended.head).eval()
