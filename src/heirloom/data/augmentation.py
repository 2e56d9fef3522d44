"""Batched augmentation on the images' device; every draw comes from the generator passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.runtime.randomness import integers, uniform


@dataclass(frozen=True)
class Augmentation:
    """What :func:`augment` does, in this order; the defaults are Table 5 of CRoPD (arXiv 2504.10850), which
    are SimCLR's without blur.

    Attributes:
        crop_scale: area of the random resized crop as a share of the image (low, high); None: no crop.
        crop_ratio: its width / height (low, high).
        flip: probability of a horizontal flip.
        jitter: strengths of brightness, contrast, saturation, hue, applied with probability ``jitter_p``.
        grey_p: probability of grey, colour images only.
        pad: instead of the crop: reflect-pad by so many pixels and crop back (0: not).
    """

    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    pad: int = 0


CROP_AND_FLIP = Augmentation(crop_scale=None, jitter_p=0.0, grey_p=0.0, pad=4)


def augment(x: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment each image on its own.

    Args:
        x: (N, C, H, W) in [0, 1].
        generator: on any device; the same state gives the same result there.

    Returns:
        a new tensor of the same shape in [0, 1].
    """
    if settings.crop_scale is not None or settings.flip > 0 or settings.pad:
        x = _crop_and_flip(x, settings, generator)
    if settings.jitter_p > 0:
        jittered = _colour_jitter(x, settings.jitter, generator)
        x = torch.where(_chance(x, settings.jitter_p, generator), jittered, x)
    if settings.grey_p > 0 and x.shape[1] == 3:
        from kornia.color import rgb_to_grayscale

        grey = rgb_to_grayscale(x).expand_as(x)
        x = torch.where(_chance(x, settings.grey_p, generator), grey, x)
    return x


def _crop_and_flip(x: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    n, height, width = len(x), x.shape[2], x.shape[3]
    share_w, share_h, centre_x, centre_y = _crop_boxes(x, settings, generator)
    flipped = (_uniform(x, 0, 1, generator) < settings.flip).float() * -2 + 1
    theta = torch.zeros(n, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 0, 2] = share_w * flipped, centre_x
    theta[:, 1, 1], theta[:, 1, 2] = share_h, centre_y
    if settings.pad and settings.crop_scale is None:
        x = functional.pad(x, (settings.pad,) * 4, mode="reflect")
    grid = functional.affine_grid(theta, [n, x.shape[1], height, width], align_corners=False)
    sampled = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.clamp(0, 1)  # bilinear weights can round past 1


def _crop_boxes(
    x: Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Width, height (as shares of the source) and centre (in [-1, 1]) of each image's window."""
    n, height, width = len(x), x.shape[2], x.shape[3]
    if settings.crop_scale is not None:
        area = _uniform(x, *settings.crop_scale, generator)
        log_low, log_high = (math.log(ratio) for ratio in settings.crop_ratio)
        ratio = _uniform(x, log_low, log_high, generator).exp() * height / width
        share_w, share_h = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
        centre_x = _uniform(x, -1, 1, generator) * (1 - share_w)
        centre_y = _uniform(x, -1, 1, generator) * (1 - share_h)
        return share_w, share_h, centre_x, centre_y
    padded_w, padded_h = width + 2 * settings.pad, height + 2 * settings.pad
    shift_x, shift_y = (
        integers(-settings.pad, settings.pad + 1, (n,), generator, x.device).float() for _ in range(2)
    )
    ones = torch.ones(n, device=x.device)
    return ones * width / padded_w, ones * height / padded_h, 2 * shift_x / padded_w, 2 * shift_y / padded_h


def _colour_jitter(
    x: Tensor, strengths: tuple[float, float, float, float], generator: torch.Generator
) -> Tensor:
    """Brightness, contrast, saturation and hue in an order drawn for the batch, factors for each image."""
    from kornia.color import rgb_to_grayscale
    from kornia.enhance import adjust_hue

    brightness, contrast, saturation, hue = strengths
    colour = x.shape[1] == 3

    def factor(strength: float) -> Tensor:
        return _uniform(x, max(0, 1 - strength), 1 + strength, generator).view(-1, 1, 1, 1)

    factors = [factor(brightness), factor(contrast), factor(saturation)]
    turn = _uniform(x, -hue, hue, generator) * 2 * math.pi
    for step in _order(generator):
        if step == 0:
            x = x * factors[0]
        elif step == 1:
            grey = rgb_to_grayscale(x) if colour else x
            middle = grey.mean((1, 2, 3), keepdim=True)
            x = middle + (x - middle) * factors[1]
        elif step == 2 and colour:
            grey = rgb_to_grayscale(x)
            x = grey + (x - grey) * factors[2]
        elif step == 3 and colour and hue > 0:
            x = adjust_hue(x, turn)
        x = x.clamp(0, 1)
    return x


def _order(generator: torch.Generator) -> list[int]:
    """Of the four adjustments. A generator on a GPU lends its seed: the GPU would have to stop for the numbers."""
    if generator.device.type != "cpu":
        generator = torch.Generator().manual_seed(generator.initial_seed())
    order: list[int] = torch.randperm(4, generator=generator).tolist()
    return order


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(N,), one for each image of ``x``, where these are."""
    return low + (high - low) * uniform((len(x),), generator, x.device)


def _chance(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    return (_uniform(x, 0, 1, generator) < p).view(-1, 1, 1, 1)
