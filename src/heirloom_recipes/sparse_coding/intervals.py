"""Small-sample intervals: over seeds, and of a rank correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def interval(values: Tensor | list[float]) -> dict[str, Any]:
    """Mean of n repeats with its 95 % Student interval: {"value", "low", "high", "n"}.

    One repeat has no interval: ``low`` and ``high`` are None.
    """
    from scipy.stats import t

    array = np.asarray(values, dtype=np.float64)
    n, value = len(array), float(array.mean())
    if n == 1:
        return {"value": value, "low": None, "high": None, "n": 1}
    half = float(t.ppf(0.975, n - 1) * array.std(ddof=1) / n**0.5)
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def spearman(x: Tensor | list[float], y: Tensor | list[float], *, seed: int = 0) -> dict[str, Any]:
    """Rank correlation over n points with its 95 % percentile bootstrap interval (2000 resamples)."""
    from scipy.stats import spearmanr

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    random, found = np.random.default_rng(seed), []
    for _ in range(2000):
        pick = random.integers(0, len(a), len(a))
        if np.ptp(a[pick]) > 0 and np.ptp(b[pick]) > 0:
            found.append(float(spearmanr(a[pick], b[pick]).statistic))
    low, high = np.quantile(found, [0.025, 0.975])
    value = float(spearmanr(a, b).statistic)
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value), "n": len(a)}
