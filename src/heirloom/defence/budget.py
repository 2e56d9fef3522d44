"""A number of training steps from a number of minutes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from heirloom.runtime import distributed
from heirloom.runtime.files import read_json, write_json
from heirloom.training.loop import TrainingSettings

WARM_UP, TIMED = 2, 6  # steps that are thrown away, and steps that are timed


def steps_in(
    minutes: float,
    model: nn.Module,
    settings: TrainingSettings,
    run: Callable[[nn.Module, TrainingSettings], object],
    kept: Path | None,
) -> int:
    """How many steps of ``run`` fit into ``minutes`` on this machine now; at least 1.

    Args:
        run: trains the module that it is given; it gets a copy of ``model``, which stays as it is.
        kept: a file that holds the number once it is known: a resumed run must not measure again.
    """
    if kept is not None and distributed.agreed(kept.exists()):
        return int(read_json(kept)["steps"])
    seconds = []
    for count in (WARM_UP, WARM_UP + TIMED):
        started = time.perf_counter()
        run(copy.deepcopy(model), replace(settings, steps=count))
        seconds.append(time.perf_counter() - started)
    each = max(seconds[1] - seconds[0], 1e-6) / TIMED
    steps = distributed.agreed(max(1, round(60 * minutes / each)))
    if kept is not None and distributed.rank() == 0:
        write_json(kept, {"steps": steps, "minutes": minutes, "seconds_each": each})
    return steps
