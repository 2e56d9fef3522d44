"""Planted defences in which two mechanisms are present, or one that looks like another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from heirloom.data.images import load_images
from heirloom.evaluation.broken.inconsistent import Around


class _Gallery(Around):
    stored: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", load_images("digits").train.images.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.flatten(1), self.stored).argmin(1)
        return self.network(self.stored[nearest].view_as(x))


class _SteepRipple(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits + 6 * torch.sin(3e5 * logits)


class _RoundedProbabilities(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network((4 * x).round() / 4).softmax(1)


class _NoiseOnSaturated(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return 1e4 * (logits + 1e-3 * torch.randn_like(logits))


class _CoarselySeeded(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.3 * torch.stack([_noise(image) for image in x.detach().cpu()]).to(x))


class _UnitMargin(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        first, second = logits.topk(2, dim=1).values.split(1, dim=1)
        return 8 * (logits - first) / (first - second + 1e-6)


class _NarrowIntegers(Around):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(self.network(x), 0.02, 0, -128, 127)


class _LitThermometer(Around):
    def forward(self, x: Tensor) -> Tensor:
        code = sum((x >= level / 8).float() for level in range(1, 9)) / 8
        return self.network(code) * (0.5 + x.mean((1, 2, 3), keepdim=True).flatten(1))


def _noise(image: Tensor) -> Tensor:
    digits = hashlib.sha256((8 * image).round().to(torch.uint8).numpy().tobytes()).hexdigest()[:8]
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(int(digits, 16)))


def stored_gallery() -> nn.Module:
    """Images replaced by the nearest of the training images, which is no rounding of pixels."""
    return _Gallery()


def steep_ripple() -> nn.Module:
    """A ripple on the logits so steep that images a millionth apart differ, as if the image seeded noise."""
    return _SteepRipple()


def rounded_probabilities() -> nn.Module:
    """Pixels rounded to 5 levels, and probabilities at the end: the rounding is what hides the gradient."""
    return _RoundedProbabilities()


def noise_on_saturated() -> nn.Module:
    """Noise too small to matter on logits so large that cross-entropy has no gradient."""
    return _NoiseOnSaturated()


def coarsely_seeded() -> nn.Module:
    """Noise seeded by a hash of the image rounded to 9 levels: between the levels nothing is drawn anew."""
    return _CoarselySeeded()


def unit_margin() -> nn.Module:
    """Logits divided by their own margin, which is then the same everywhere."""
    return _UnitMargin()


def narrow_integers() -> nn.Module:
    """Logits in eight bits of too narrow a range: rounded, and most of them clipped."""
    return _NarrowIntegers()


def lit_thermometer() -> nn.Module:
    """Thresholds without a gradient, times the brightness, which has one that leads nowhere."""
    return _LitThermometer()
