"""Planted defences of rarer kinds: decoy gradients, hooks, odd logits, codebooks, adaptation, rare randomness."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.images import load_images
from heirloom.evaluation.broken.base import fit, seeded_modules, small_encoder
from heirloom.evaluation.broken.inconsistent import Around


class _DecoyGradient(Around):
    def __init__(self) -> None:
        super().__init__()
        self.decoy = seeded_modules(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 5)

    def forward(self, x: Tensor) -> Tensor:
        decoy = 200 * self.decoy(x)
        return self.network(x) + decoy - decoy.detach()


class _GradientHook(Around):
    def forward(self, x: Tensor) -> Tensor:
        x = 1 * x
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient.clamp(-1e-12, 1e-12))
        return self.network(x)


class _Shuffled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.flip(2, 3).roll(3, 3)


class _ShuffledGradient(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(_Shuffled.apply(x))


class _RoundedLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).round()


class _ClampedLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return (self.network(x) * 1e5).clamp(-1e4, 1e4)


class _OffsetLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + 1e7


class _ScaledProbabilities(Around):
    def forward(self, x: Tensor) -> Tensor:
        return 100 * self.network(x).softmax(1)


class _EarlyExit(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        sure = logits.softmax(1).amax(1, keepdim=True) > 0.6
        return torch.where(sure, logits.detach(), logits)


class _Codebook(Around):
    def __init__(self) -> None:
        super().__init__()
        patches = self._patches(load_images("digits").train.images[:200]).flatten(0, 1)
        chosen = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))[:64]
        self.register_buffer("codes", patches[chosen])

    @staticmethod
    def _patches(x: Tensor) -> Tensor:
        return functional.unfold(x, 2, stride=2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.codes  # type: ignore[assignment]
        nearest = torch.cdist(self._patches(x), codes.expand(len(x), -1, -1)).argmin(2)
        return self.network(functional.fold(codes[nearest].transpose(1, 2), 8, 2, stride=2))


class _CoarseStraightThrough(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + ((3 * x).round() / 3 - x).detach())


class _RarelyRandom(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flip(3) if float(torch.rand(())) < 0.1 else x)


class _WeightNoise(Around):
    def forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        weight = network.head.weight
        noise = 0.1 * weight.std() * torch.randn_like(weight)
        return functional.linear(network.encoder(x), weight + noise, network.head.bias)


class _AdaptingNorm(nn.Module):
    """Moves its BatchNorm's scale and shift towards less entropy at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.network = deepcopy(normed_net())

    def forward(self, x: Tensor) -> Tensor:
        moved = [
            p for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) for p in (m.weight, m.bias)
        ]
        with torch.enable_grad():
            for parameter in moved:
                parameter.requires_grad_()
            logs = self.network(x.detach()).log_softmax(1)
            entropy = -(logs.exp() * logs).sum(1).mean()
            slopes = torch.autograd.grad(entropy, moved)
        for parameter, slope in zip(moved, slopes, strict=True):
            parameter.requires_grad_(False).sub_(0.05 * slope)
        return self.network(x)


class _SwitchedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = deepcopy(normed_net())

    def forward(self, x: Tensor) -> Tensor:
        self.network.train()
        logits = self.network(x)
        self.network.eval()
        return logits


class _BatchAttention(Around):
    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(1)
        shared = (2 * pixels @ pixels.T).softmax(1) @ pixels
        return self.network(0.6 * x + 0.4 * shared.view_as(x))


class _NanDetector(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        rough = (x - functional.avg_pool2d(x, 3, 1, 1)).abs().mean((1, 2, 3)) > 0.19
        return torch.where(rough[:, None], torch.nan, logits)


class _LowRank(Around):
    def forward(self, x: Tensor) -> Tensor:
        u, values, v = torch.linalg.svd(x[:, 0])
        return self.network((u[:, :, :6] @ values[:, :6].diag_embed() @ v[:, :6])[:, None])


class _DetachedLoop(Around):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = (0.8 * x + 0.2 * functional.avg_pool2d(x, 3, 1, 1)).detach()
        return self.network(x)


class _Shattered(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.04 * torch.sin(500 * x))


class _TemperatureUnderGrad(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) * (1e-3 if torch.is_grad_enabled() else 1.0)


@cache
def normed_net() -> nn.Module:
    """The undefended net with BatchNorm."""
    return fit(seeded_modules(lambda: nn.Sequential(small_encoder(batch_norm=True), nn.Linear(512, 10)), 0))


def decoy_gradient() -> nn.Module:
    """A decoy net's gradient is added, and its value taken away again."""
    return _DecoyGradient().eval()


def gradient_hook() -> nn.Module:
    """A hook cuts the image's gradient to 1e-12."""
    return _GradientHook().eval()


def shuffled_gradient() -> nn.Module:
    """A custom backward pass gives each pixel another one's gradient."""
    return _ShuffledGradient().eval()


def rounded_logits() -> nn.Module:
    """Logits rounded to whole numbers."""
    return _RoundedLogits().eval()


def clamped_logits() -> nn.Module:
    """Logits that end at 10000 and -10000."""
    return _ClampedLogits().eval()


def offset_logits() -> nn.Module:
    """Logits around ten million, where float32 knows whole numbers only."""
    return _OffsetLogits().eval()


def scaled_probabilities() -> nn.Module:
    """Probabilities in per cent instead of logits."""
    return _ScaledProbabilities().eval()


def early_exit() -> nn.Module:
    """Confident answers leave by an exit that is detached."""
    return _EarlyExit().eval()


def codebook() -> nn.Module:
    """Each patch replaced by the nearest of 64 codes."""
    return _Codebook().eval()


def coarse_straight_through() -> nn.Module:
    """Pixels rounded to 4 levels, with a gradient that pretends they are not."""
    return _CoarseStraightThrough().eval()


def rarely_random() -> nn.Module:
    """Flips the images in one call of ten."""
    return _RarelyRandom().eval()


def weight_noise() -> nn.Module:
    """Weights drawn anew at every forward pass."""
    return _WeightNoise().eval()


def adapting_norm() -> nn.Module:
    """Entropy minimised at test time: the model changes at every call."""
    return _AdaptingNorm().eval()


def switched_batch_norm() -> nn.Module:
    """BatchNorm switched to train mode within the forward pass, and back."""
    return _SwitchedNorm().eval()


def batch_attention() -> nn.Module:
    """Each image mixed with the batch's images that are like it."""
    return _BatchAttention().eval()


def nan_detector() -> nn.Module:
    """Images that look noisy get logits that are no numbers."""
    return _NanDetector().eval()


def low_rank() -> nn.Module:
    """A singular value decomposition in front, whose gradient is infinite for equal singular values."""
    return _LowRank().eval()


def detached_loop() -> nn.Module:
    """Smoothed twice, each time detached."""
    return _DetachedLoop().eval()


def shattered_pixels() -> nn.Module:
    """A ripple on the pixels that gives the loss a slope of its own everywhere."""
    return _Shattered().eval()


def temperature_under_grad() -> nn.Module:
    """Logits a thousand times smaller while gradients are enabled."""
    return _TemperatureUnderGrad().eval()
