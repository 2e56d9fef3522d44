"""First-layer filters: how they are drawn, and numbers for how purified they are.

Xing et al., AISTATS 2024, section 7 and appendix D draw them, each filter scaled to [0, 1] by itself, and say
in words that adversarial training leaves "fewer types of colors in one cell" and "highly concentrated"
filters. The measures below put numbers to these words; they are ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require

COLOUR_LEVELS = 4  # of each channel, for counting colours
STRONG_SHARE = 0.1  # of a filter's weights, for the concentration of its energy
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A measure averaged over ``n`` filters with its 95 % percentile bootstrap interval over filters."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def first_layer(module: nn.Module) -> Tensor:
    """The filters (F, C, k, k) of the first convolution of ``module`` that looks at an image, float32 copies.

    That is the stem of a convolutional network or the patch embedding of a vision transformer.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.in_channels in (1, 3) and part.kernel_size != (1, 1):
            return part.weight.detach().float().cpu().clone()
    require(False, "encoder", "a network whose first layer is a convolution of images", type(module).__name__)
    raise AssertionError


def drawn(filters: Tensor) -> Tensor:
    """Each filter (C, k, k) of (F, C, k, k) scaled to [0, 1] by itself; a constant one becomes grey, 0.5."""
    flat = filters.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    spread = (high - low).view(-1, 1, 1, 1)
    scaled = (filters - low.view(-1, 1, 1, 1)) / spread.clamp_min(1e-30)
    return torch.where(spread > 0, scaled, torch.full_like(scaled, 0.5))


def colour_count(filters: Tensor) -> Tensor:
    """The effective number of colours in each drawn filter, (F,), from 1 to k k.

    Colours are told apart on a grid of 4 levels per channel; the count is the exponential of the entropy of
    their shares, so a colour that fills one cell of 49 hardly counts.
    """
    level = (drawn(filters) * COLOUR_LEVELS).long().clamp_max(COLOUR_LEVELS - 1)
    radix = COLOUR_LEVELS ** torch.arange(filters.shape[1])
    codes = (level * radix.view(1, -1, 1, 1)).sum(1).flatten(1)
    same = (codes[:, :, None] == codes[:, None, :]).double().mean(2)  # each place's colour's share
    return torch.exp(-same.log().mean(1))


def colour_rank(filters: Tensor) -> Tensor:
    """The effective number of independent colour directions of each filter, (F,), from 1 to C.

    The exponential of the entropy of the normalised squared singular values of its (C, k k) matrix (Roy and
    Vetterli, 2007): 1 where all places share one colour up to brightness. 0 for an empty filter.
    """
    energy = torch.linalg.svdvals(filters.flatten(2).double()).square()
    share = energy / energy.sum(1, keepdim=True).clamp_min(1e-300)
    return torch.exp(-torch.special.xlogy(share, share).sum(1)) * (energy.sum(1) > 0)


def energy_concentration(filters: Tensor) -> Tensor:
    """The share of each filter's squared weights that its strongest tenth of weights holds, (F,)."""
    energy = filters.flatten(1).double().square()
    strongest = energy.sort(dim=1, descending=True).values[:, : max(1, round(STRONG_SHARE * energy.shape[1]))]
    return strongest.sum(1) / energy.sum(1).clamp_min(1e-300)


def spatial_concentration(filters: Tensor) -> Tensor:
    """1 - (variance of the place of each filter's energy) / (that of evenly spread energy), (F,).

    1: all energy in one pixel; 0: as spread out as a constant filter; below 0: pushed to the edges.
    """
    energy = filters.double().square().sum(1)
    share = energy / energy.sum((1, 2), keepdim=True).clamp_min(1e-300)
    height, width = share.shape[1:]
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)

    def variance(p: Tensor, places: Tensor) -> Tensor:
        mean = (p * places).sum(-1, keepdim=True)
        return (p * (places - mean).square()).sum(-1)

    spread = variance(share.sum(2), rows) + variance(share.sum(1), columns)
    even = rows.var(correction=0) + columns.var(correction=0)
    return 1 - spread / even


def hoyer(filters: Tensor) -> Tensor:
    """Hoyer's sparsity of each filter, (F,): 0 where all weights are equally large, 1 where one is left."""
    flat = filters.flatten(1).double()
    size = flat.shape[1] ** 0.5
    ratio = flat.abs().sum(1) / torch.linalg.vector_norm(flat, dim=1).clamp_min(1e-300)
    return (size - ratio) / (size - 1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "colour_count": colour_count,
    "colour_rank": colour_rank,
    "energy_concentration": energy_concentration,
    "spatial_concentration": spatial_concentration,
    "hoyer": hoyer,
}


def purity(filters: Tensor, *, seed: int = 0) -> dict[str, Interval]:
    """All measures of ``filters`` (F, C, k, k), averaged with weights equal to the filters' squared norms.

    The weights keep filters that died (weight decay leaves them tiny and shapeless) out of the average.
    """
    weights = filters.flatten(1).double().square().sum(1).numpy()
    require(weights.sum() > 0, "filters", "at least one filter that is not zero", "zeros")
    draws = _draws(len(weights), seed)
    found = {}
    for name, measure in MEASURES.items():
        values = measure(filters).numpy()
        low, high = np.quantile(_averages(values, weights, draws), [0.025, 0.975])
        value = float(np.average(values, weights=weights))
        found[name] = Interval(value, min(float(low), value), max(float(high), value), len(weights))
    return found


def purity_difference(filters: Tensor, other: Tensor, *, seed: int = 0) -> dict[str, Interval]:
    """``other`` minus ``filters`` in each measure, the two resampled independently."""
    found = {}
    weights = [part.flatten(1).double().square().sum(1).numpy() for part in (filters, other)]
    draws = [_draws(len(w), seed + number) for number, w in enumerate(weights)]
    for name, measure in MEASURES.items():
        values = [measure(part).numpy() for part in (filters, other)]
        samples = [_averages(*parts) for parts in zip(values, weights, draws, strict=True)]
        low, high = np.quantile(samples[1] - samples[0], [0.025, 0.975])
        means = [float(np.average(v, weights=w)) for v, w in zip(values, weights, strict=True)]
        found[name] = Interval(means[1] - means[0], float(low), float(high), min(len(w) for w in weights))
    return found


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _averages(values: np.ndarray, weights: np.ndarray, draws: np.ndarray) -> np.ndarray:
    total = weights[draws].sum(1)
    return (values[draws] * weights[draws]).sum(1) / np.maximum(total, 1e-300)
