"""Learning-rate schedules: share of the training done, in [0, 1] -> factor on the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

Schedule = Callable[[float], float]


def warmup_cosine(warmup: float) -> Schedule:
    """Linear from 0 to 1 over the first ``warmup`` of the training, then a cosine to 0."""

    def factor(done: float) -> float:
        if done < warmup:
            return done / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1 - warmup, 1e-12)))

    return factor


def divided_at(milestones: Iterable[float], factor: float = 0.1) -> Schedule:
    """The learning rate times ``factor`` after each milestone (shares of the training)."""
    places = sorted(milestones)
    return lambda done: factor ** sum(done > place for place in places)
