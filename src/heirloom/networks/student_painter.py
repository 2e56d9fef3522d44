"""A student and a painter: images to a foundation model's features, and from those features back to images.

The student of robust distillation (DeACL: Zhang et al., ECCV 2022) and the decoder of feature inversion
(Dosovitskiy and Brox, CVPR 2016). As an auto-encoder its latent is the foundation's own feature space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.networks.resnet import ResNet, resnet10, resnet18
from heirloom.runtime.choices import Activation
from heirloom.runtime.errors import require

STUDENTS = ("resnet10", "resnet18")
FIRST_SIDE = 8  # the painter starts from a picture of at most so many pixels a side


@dataclass(frozen=True)
class StudentPainterSettings:
    """Attributes:
    features: of the foundation model, which the student's output stands for.
    student: ``resnet10`` (of ``width``; 6x6 stem of stride 2) or ``resnet18``. width: of ResNet-10.
    activation: of the student.
    thumbnail: side of a coarse picture that the painter sees beside the features; 0: none.
    painter_width: channels of the painter.
    """

    image_size: int = 32
    channels: int = 3
    features: int = 64
    student: str = "resnet10"
    width: int = 32
    painter_width: int = 64
    activation: Activation = "relu"
    thumbnail: int = 0


class Student(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> features (N, D) in the foundation's space.

    Buffers ``mean`` (D,) and ``deviation`` () place the output where the foundation's features lie.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: StudentPainterSettings) -> None:
        super().__init__()
        require(settings.student in STUDENTS, "student", f"one of {', '.join(STUDENTS)}", settings.student)
        self.settings = settings
        self.body = _body(settings)
        self.out = nn.Linear(self.body.feature_size, settings.features)
        self.feature_size = settings.features
        self.register_buffer("mean", torch.zeros(settings.features))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.mean + self.deviation * self.out(self.body(x - 0.5)).to(self.mean.dtype)


class Painter(nn.Module):
    """Features (N, D), a flat thumbnail behind them where there is one, -> pixels (N, C, H, W) in [0, 1], by doublings
    from at most 8 pixels a side.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: StudentPainterSettings) -> None:
        super().__init__()
        s, width = settings, settings.painter_width
        doublings = max(2, math.ceil(math.log2(s.image_size / FIRST_SIDE)))
        self.side, self.first = s.image_size, math.ceil(s.image_size / 2**doublings)
        self.features, self.thumbnail = s.features, s.thumbnail
        self.linear = nn.Linear(s.features, width * self.first**2)
        self.glance = nn.Conv2d(s.channels, width, 3, padding=1) if s.thumbnail else None
        self.body = nn.Sequential(*[_doubling(width) for _ in range(doublings)])
        self.out = nn.Conv2d(width, s.channels, 3, padding=1)
        self.register_buffer("mean", torch.zeros(s.features))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, latent: Tensor) -> Tensor:
        q = latent[:, : self.features]
        hidden = self.linear((q - self.mean) / self.deviation).view(len(q), -1, self.first, self.first)
        if self.glance is None:
            return self._cropped(self.body(hidden)).sigmoid()
        coarse = latent[:, self.features :].view(len(q), -1, self.thumbnail, self.thumbnail)
        hidden = hidden + self.glance(_resized(coarse, self.first) - 0.5)
        whole = _resized(coarse, self.side)  # what is painted is a change of the coarse picture
        return (self._cropped(self.body(hidden)) + whole.clamp(0.01, 0.99).logit()).sigmoid()

    def _cropped(self, hidden: Tensor) -> Tensor:
        return self.out(hidden)[:, :, : self.side, : self.side].to(self.mean.dtype)


class StudentPainter(nn.Module):
    """The pair as an auto-encoder: ``encode`` is the student (and a thumbnail, flat, behind its features, where one is
    kept), ``decode`` the painter, ``project`` nothing.
    """

    def __init__(self, settings: StudentPainterSettings) -> None:
        super().__init__()
        side = settings.thumbnail
        require(0 <= side <= settings.image_size, "thumbnail", "from 0 to the images' own side", side)
        self.settings = settings
        self.student, self.painter = Student(settings), Painter(settings)

    def encode(self, x: Tensor) -> Tensor:
        q, side = self.student(x), self.settings.thumbnail
        return torch.cat([q, functional.adaptive_avg_pool2d(x, side).flatten(1)], 1) if side else q

    def decode(self, latent: Tensor) -> Tensor:
        return self.painter(latent)

    def project(self, latent: Tensor) -> Tensor:
        return latent

    @torch.no_grad()
    def place(self, features: Tensor) -> None:
        """Set both parts' buffers to the mean and deviation of the foundation's ``features`` (N, D)."""
        for part in (self.student, self.painter):
            part.mean.copy_(features.mean(0))
            part.deviation.copy_(features.var(0).mean().sqrt().clamp_min(1e-6))


def _body(settings: StudentPainterSettings) -> ResNet:
    if settings.student == "resnet18":
        return resnet18(channels=settings.channels, activation=settings.activation)
    return resnet10(width=settings.width, channels=settings.channels, activation=settings.activation)


def _resized(picture: Tensor, side: int) -> Tensor:
    return functional.interpolate(picture, (side, side), mode="bilinear", align_corners=False)


def _doubling(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(8, width),
        nn.GELU(),
        nn.Conv2d(width, 4 * width, 1),
        nn.PixelShuffle(2),
        nn.GELU(),
    )
