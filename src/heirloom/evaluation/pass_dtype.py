"""Which type the attacks' passes are faster in, measured on the model, the batch and the machine at hand.

No table can tell: with AMX bfloat16 is three to four times as fast on a CPU, with avx512_bf16 alone twice as fast on
a ResNet and slower on a small ViT, without either slower on all (``docs/attacks.md``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.for_the_passes import for_the_passes
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import cross_entropy
from heirloom.evaluation.apart import on_a_copy
from heirloom.evaluation.chunks import seeded
from heirloom.models.memory import fitting
from heirloom.runs import Run
from heirloom.runtime import distributed
from heirloom.runtime.choices import Dtype, PassDtype

AUTO: Literal["auto"] = "auto"
MARGIN = 0.85  # bfloat16 must take less than this share of float32's time: a draw is not worth another type
ROUNDS = 5
AT_ONCE = 64


@dataclass(frozen=True)
class Measured:
    """The type that ``auto`` chose, and what it was chosen by: milliseconds an image of a forward and backward pass,
    medians of ``rounds`` alternating passes; of CPU time on a CPU, of device events on a GPU."""

    chosen: str
    float32: float
    bfloat16: float
    rounds: int
    images: int


def measured_dtype(
    model: nn.Module, data: tuple[Any, Tensor], device: str, batch_size: int | None
) -> dict[str, Any]:
    """Time the passes of both types on copies of ``model``, which is not called; a dict of :class:`Measured`.

    float32 where bfloat16 is not faster by a margin, or the model cannot be copied (``{"chosen": "float32"}``).
    """
    with on_a_copy(model) as copied:
        return {"chosen": "float32"} if copied is None else _timed_both(copied, data, device, batch_size)


def _timed_both(
    copied: nn.Module, data: tuple[Any, Tensor], device: str, batch_size: int | None
) -> dict[str, Any]:
    place, (images, labels) = distributed.local_device(device), data
    copied = copied.to(place).eval()
    with seeded(place, 0):
        size = batch_size or fitting(copied, images[:2].to(place), AT_ONCE)
        count = min(size, AT_ONCE, len(labels))
        x, y = images[:count].to(place), labels[:count].to(place)
        passes = [for_the_passes(copied, x[:3], dtype) for dtype in (None, torch.bfloat16)]
        found = _alternating([_one_pass(each, x, y) for each in passes], place)
    whole, half = (1000 * seconds / count for seconds in found)
    chosen = "bfloat16" if half < MARGIN * whole else "float32"
    return asdict(Measured(chosen, round(whole, 4), round(half, 4), ROUNDS, count))


def passes_in(
    asked: PassDtype | None,
    run: Run,
    stage: str,
    model: nn.Module,
    data: tuple[Any, Tensor],
    device: str,
    batch_size: int | None,
) -> Dtype | None:
    """``asked``; for ``auto`` what was measured, as a stage of ``run``: a run that goes on does not choose again.

    None: float32. ``run.stage(stage, dict)`` is what was measured.
    """
    if asked != AUTO:
        return asked
    found = run.stage(stage, lambda: measured_dtype(model, data, device, batch_size))["chosen"]
    return None if found == "float32" else found


def _one_pass(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    return lambda: input_gradient(model, x, y, cross_entropy)


def _alternating(passes: list[Callable[[], object]], place: torch.device) -> list[float]:
    """The median seconds of each, after one pass each that does not count."""
    taken: list[list[float]] = [[] for _ in passes]
    for turn in range(ROUNDS + 1):
        for found, run in zip(taken, passes, strict=True):
            seconds = _timed(run, place)
            if turn:
                found.append(seconds)
    return [median(found) for found in taken]


def _timed(run: Callable[[], object], place: torch.device) -> float:
    if place.type != "cuda":
        started = time.process_time()
        run()
        return time.process_time() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(place)
    return float(start.elapsed_time(end)) / 1000
