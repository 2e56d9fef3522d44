"""Pillow's resampling filters as differentiable functions of float pixels.

Image processors resize with Pillow; its filters widen with the reduction and are normalised at the border,
which ``torch.nn.functional.interpolate`` does where ``antialias`` is on.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Resampling = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
RESAMPLING: tuple[Resampling, ...] = get_args(Resampling)  # in the order of Pillow's numbers
_SUPPORT = {"lanczos": 3.0, "box": 0.5, "hamming": 1.0}
_OVERSHOOTS = ("bicubic", "lanczos")


def resample(x: Tensor, size: tuple[int, int], how: Resampling) -> Tensor:
    """(N, C, H, W) in [0, 1] -> (N, C, *size); filters that overshoot are clamped, as whole bytes would be.

    Types of 16 bits, those of autocast say, are resampled in float32: torch has no such filters in them on a CPU.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        return resample(x.float(), size, how).to(x.dtype)
    if how == "nearest":
        return x[:, :, _nearest(x.shape[2], size[0])][:, :, :, _nearest(x.shape[3], size[1])]
    if how in _SUPPORT:
        rows, columns = (_weights(old, new, how).to(x) for old, new in zip(x.shape[2:], size, strict=True))
        x = rows @ x @ columns.T
    else:
        shrinks = size[0] < x.shape[2] or size[1] < x.shape[3]
        x = functional.interpolate(
            x, size, mode=how, align_corners=False, antialias=shrinks or how == "bicubic"
        )
    return x.clamp(0, 1) if how in _OVERSHOOTS else x


def _nearest(old: int, new: int) -> list[int]:
    """The old pixel of each new one, its place summed step by step: ties fall as Pillow's do."""
    step = old / new
    places = accumulate([step / 2, *[step] * (new - 1)])
    return [min(int(place), old - 1) for place in places]


def _weights(old: int, new: int, how: str) -> Tensor:
    """(new, old): the weight of each old pixel in each new one, along one side."""
    scale = old / new
    width = max(scale, 1.0)
    centre = (torch.arange(new, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (torch.arange(old, dtype=torch.float64)[None] + 0.5 - centre) / width
    weights = _kernel(distance, how) * (distance.abs() <= _SUPPORT[how])
    return weights / weights.sum(1, keepdim=True)


def _kernel(t: Tensor, how: str) -> Tensor:
    if how == "box":
        return ((t > -0.5) & (t <= 0.5)).to(t)
    if how == "hamming":
        return torch.sinc(t) * (0.54 + 0.46 * torch.cos(math.pi * t))
    return torch.sinc(t) * torch.sinc(t / 3)
