"""Intervals: over examples (bootstrap), between two models (paired), over repeats (spread)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heirloom.results import Mean, Proportion

RESAMPLES = 10_000


def proportion(correct: Tensor, *, seed: int = 0) -> Proportion:
    """The share of True in ``correct`` (N,) with its 95 % percentile bootstrap interval over examples."""
    n, value = len(correct), float(correct.double().mean())
    # resampling n verdicts with replacement draws a binomial count
    shares = np.random.default_rng(seed).binomial(n, value, RESAMPLES) / n
    low, high = np.quantile(shares, [0.025, 0.975])
    return Proportion(value=value, low=min(low, value), high=max(high, value), n=n)


def mean(values: Tensor | list[float]) -> Mean:
    """Mean and standard deviation (n - 1) over repeats such as seeds."""
    tensor = torch.as_tensor(values, dtype=torch.float64)
    sd = float(tensor.std()) if len(tensor) > 1 else 0.0
    return Mean(value=float(tensor.mean()), sd=sd, n=len(tensor))
