"""Filters that people put in front of a model against attacks: JPEG, fewer bits, a median.

Dziugaite, Ghahramani and Roy, "A study of the effect of JPG compression on adversarial images", 2016; Xu, Evans
and Qi, "Feature Squeezing", NDSS 2018. JPEG and rounding have no gradient, which fools an attack and protects
nobody: both hand back the gradient of the identity (BPDA: Athalye, Carlini and Wagner, ICML 2018), so whatever
attacks the whole is an adaptive attack.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from heirloom.runtime.errors import require

TRANSFORMS = ("jpeg", "bit-depth", "median")


@dataclass(frozen=True)
class TransformSettings:
    """``kind`` of the filter; JPEG's ``quality`` (1 to 95), ``bits`` a channel is rounded to."""

    image_size: int = 32
    channels: int = 3
    kind: str = "jpeg"
    quality: int = 75
    bits: int = 3

    def __post_init__(self) -> None:
        require(self.kind in TRANSFORMS, "kind", f"one of {', '.join(TRANSFORMS)}", self.kind)
        require(1 <= self.quality <= 95, "quality", "from 1 to 95", self.quality)
        require(1 <= self.bits <= 8, "bits", "from 1 to 8", self.bits)


class Transform(nn.Module):
    """A filter as an auto-encoder: ``encode`` filters, ``decode`` and ``project`` change nothing."""

    def __init__(self, settings: TransformSettings) -> None:
        super().__init__()
        self.settings = settings

    def encode(self, x: Tensor) -> Tensor:
        if self.settings.kind == "median":
            return median(x)
        value = (
            jpeg(x, self.settings.quality) if self.settings.kind == "jpeg" else rounded(x, self.settings.bits)
        )
        return value + (x - x.detach())  # the filter's value, the identity's gradient

    def decode(self, latent: Tensor) -> Tensor:
        return latent

    def project(self, latent: Tensor) -> Tensor:
        return latent.flatten(1)


@torch.no_grad()
def rounded(x: Tensor, bits: int) -> Tensor:
    """Pixels in [0, 1] rounded to 2^bits levels, both ends among them."""
    levels = 2**bits - 1
    return (x * levels).round() / levels


def median(x: Tensor) -> Tensor:
    """Each pixel's median over its 3x3 neighbours, edges repeated; differentiable almost everywhere."""
    n, channels, height, width = x.shape
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, 3).view(n, channels, 9, height, width)
    return around.median(2).values


@torch.no_grad()
def jpeg(x: Tensor, quality: int) -> Tensor:
    """Each image compressed by Pillow at ``quality`` and read again, on ``x``'s device."""
    pictures = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = [torch.from_numpy(_round_trip(picture, quality)) for picture in pictures]
    stacked = torch.stack(read).to(x.device, x.dtype) / 255
    return stacked.unsqueeze(1) if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2)


def _round_trip(picture: np.ndarray[Any, Any], quality: int) -> np.ndarray[Any, Any]:
    """(H, W, C) bytes through a JPEG file in memory; one channel comes back as (H, W)."""
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(
        buffer, format="JPEG", quality=quality
    )
    return np.array(Image.open(buffer))
