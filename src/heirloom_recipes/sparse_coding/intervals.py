"""Small-sample intervals: over seeds, and of a rank correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def interval_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The same of a mean {"value", "sd", "n"}, sd being that of the n repeats."""
    from scipy.stats import t

    n, value = cell["n"], cell["value"]
    if n == 1:
        return {"value": value, "low": None, "high": None, "n": 1}
    half = float(t.ppf(0.975, n - 1) * cell["sd"] / n**0.5)
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def interval(values: Tensor | list[float]) -> dict[str, Any]:
    """Mean of n repeats with its 95 % Student interval: {"value", "low", "high", "n"}.

    One repeat has no interval: ``low`` and ``high`` are None.
    """
    array = np.asarray(values, dtype=np.float64)
    sd = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return interval_of({"value": float(array.mean()), "sd": sd, "n": len(array)})


def spearman(x: Tensor | list[float], y: Tensor | list[float], *, seed: int = 0) -> dict[str, Any]:
    """Rank correlation over n points with its 95 % percentile bootstrap interval (2000 resamples)."""
    from scipy.stats import rankdata

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    random = np.random.default_rng(seed)
    picks = np.concatenate([np.arange(len(a))[None], random.integers(0, len(a), (2000, len(a)))])
    ranks = [rankdata(values[picks], axis=1) for values in (a, b)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    lengths = [np.linalg.norm(rank, axis=1) for rank in centred]
    defined = (lengths[0] > 0) & (lengths[1] > 0)  # a resample of one point alone has no correlation
    found = (centred[0] * centred[1]).sum(1)[defined] / (lengths[0] * lengths[1])[defined]
    low, high = np.quantile(found[1:], [0.025, 0.975])
    value = float(found[0])
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value), "n": len(a)}
