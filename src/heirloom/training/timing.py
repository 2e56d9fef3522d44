"""What a step of training takes on this machine, from real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heirloom.evaluation.preflight import TIMED

QUICK = 5.0  # seconds that two steps of a whole batch may take, before any work


def step_seconds(
    second_of_two: Callable[[int], Sequence[float]], batch: int, *, beside: float = 0.0
) -> list[float]:
    """Seconds of one step of ``batch`` images, of each phase.

    Steps of a few images are timed first. Where those of a whole batch are quick they are timed themselves: what a
    step does once, whatever its batch, would count for every few images.

    Args:
        second_of_two: seconds of the second of two steps of so many images, of each phase.
        beside: seconds that timing a whole batch takes beside its steps.
    """
    few = min(batch, TIMED)
    scaled = [seconds * batch / few for seconds in second_of_two(few)]
    if few == batch or 2 * sum(scaled) + beside > QUICK:
        return scaled
    return list(second_of_two(batch))
