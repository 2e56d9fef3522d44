"""Auto-encoders for small images and small machines: a perceptron and a convolutional one.

Both have the three functions of every auto-encoder here: ``encode`` (N, C, H, W) -> latent, ``decode`` latent
-> pixels (not clamped), ``project`` latent -> (N, projector_out), on which the contrastive loss acts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn


@dataclass(frozen=True)
class MlpAutoencoderSettings:
    """``hidden`` units in two layers each way around ``latent`` codes; GELU."""

    image_size: int = 8
    channels: int = 1
    hidden: int = 256
    latent: int = 64
    projector_hidden: int = 256
    projector_out: int = 128


class MlpAutoencoder(nn.Module):
    def __init__(self, settings: MlpAutoencoderSettings) -> None:
        super().__init__()
        self.settings = s = settings
        pixels = s.channels * s.image_size**2
        self.encoder = _perceptron(pixels, s.hidden, s.hidden, s.latent)
        self.decoder = _perceptron(s.latent, s.hidden, s.hidden, pixels)
        self.projector = _perceptron(s.latent, s.projector_hidden, s.projector_out)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1) - 0.5)

    def decode(self, latent: Tensor) -> Tensor:
        s = self.settings
        return self.decoder(latent).view(-1, s.channels, s.image_size, s.image_size) + 0.5

    def project(self, latent: Tensor) -> Tensor:
        return self.projector(latent)


@dataclass(frozen=True)
class ConvAutoencoderSettings:
    """``stages`` halvings of the resolution, width doubling from ``width``; GroupNorm, so that no statistics
    of the batch reach an image."""

    image_size: int = 32
    channels: int = 3
    width: int = 32
    stages: int = 2
    projector_hidden: int = 512
    projector_out: int = 128


class ConvAutoencoder(nn.Module):
    def __init__(self, settings: ConvAutoencoderSettings) -> None:
        super().__init__()
        self.settings = s = settings
        widths = [s.width * 2**stage for stage in range(s.stages + 1)]
        self.encoder = nn.Sequential(
            nn.Conv2d(s.channels, widths[0], 3, padding=1),
            *[_block(before, after, stride=2) for before, after in pairwise(widths)],
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1),
        )
        self.decoder = nn.Sequential(
            *[
                nn.Sequential(_block(after, before), nn.Upsample(scale_factor=2, mode="nearest"))
                for before, after in reversed(list(pairwise(widths)))
            ],
            _block(widths[0], widths[0]),
            nn.Conv2d(widths[0], s.channels, 3, padding=1),
        )
        side = math.ceil(s.image_size / 2**s.stages)
        self.pool = nn.AdaptiveAvgPool2d(min(4, side))
        self.projector = _perceptron(widths[-1] * min(4, side) ** 2, s.projector_hidden, s.projector_out)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x - 0.5)

    def decode(self, latent: Tensor) -> Tensor:
        side = self.settings.image_size
        return self.decoder(latent)[:, :, :side, :side] + 0.5

    def project(self, latent: Tensor) -> Tensor:
        return self.projector(self.pool(latent).flatten(1))


def _perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(min(8, after), after), nn.GELU()
    )
