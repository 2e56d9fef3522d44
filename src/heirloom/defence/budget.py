"""A number of training steps: from a number of minutes, or from what another method was given."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from heirloom.defence.settings import PreprocessorSettings
from heirloom.runtime import distributed
from heirloom.runtime.choices import DefenceMethod
from heirloom.runtime.files import read_json, write_json
from heirloom.training.loop import TrainingSettings

WARM_UP, TIMED = 2, 6  # steps that are thrown away, and steps that are timed
FAST = 40  # steps that are timed on an accelerator, where one takes milliseconds


def seconds_each(short: float, long: float, timed: int) -> float:
    """Of a step, from a run and one that is ``timed`` steps longer. Where the difference drowns in what a run takes
    by itself, all of the longer run counts: too few steps are better than a thousand times too many.
    """
    return max(long - short, 0.2 * long, 1e-6) / timed


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
    on_cpu, seconds = settings.device == "cpu", []
    timed = TIMED if on_cpu else FAST
    first = (
        () if on_cpu else (WARM_UP,)
    )  # an accelerator loads and chooses its kernels in the first run of all
    for count in (*first, WARM_UP, WARM_UP + timed):
        started = time.perf_counter()
        run(copy.deepcopy(model), replace(settings, steps=count))
        seconds.append(time.perf_counter() - started)
    each = seconds_each(seconds[-2], seconds[-1], timed)
    steps = distributed.agreed(max(1, round(60 * minutes / each)))
    if kept is not None and distributed.rank() == 0:
        write_json(kept, {"steps": steps, "minutes": minutes, "seconds_each": each})
    return steps


def steps_of(
    settings: PreprocessorSettings, method: DefenceMethod, part: float = 1.0
) -> tuple[int, ...] | None:
    """``part`` of the steps that were given, for ``method``: one number is shared by the phases of ``distil`` as epochs
    are; of a number for each phase, those that train in one take the first. None: no steps were given.
    """
    if settings.steps is None:
        return None
    first, *rest = settings.steps
    if method != "distil" or not settings.distil.paints:
        return (max(1, round(part * first)),)
    share = settings.distil.painter_share
    student, painter = (first, rest[0]) if rest else ((1 - share) * first, share * first)
    return max(1, round(part * student)), max(1, round(part * painter))
