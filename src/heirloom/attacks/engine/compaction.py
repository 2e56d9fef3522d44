"""When the examples that are done leave the batch: at each step, or every few steps, without a look in between.

Each look asks the device for a number and changes the size of the batch. A compiled model on a GPU runs faster if
the batch keeps its size for a few steps; the points are the same, those that are done cost a few passes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_EVERY: ContextVar[int] = ContextVar("steps_between_compactions", default=1)


@contextmanager
def compacted_every(steps: int) -> Iterator[None]:
    """Let PGD and Auto-PGD take out who is done every so many steps only."""
    token = _EVERY.set(steps)
    try:
        yield
    finally:
        _EVERY.reset(token)


def is_each_step() -> bool:
    return _EVERY.get() == 1


def is_due(step: int, *, last: bool) -> bool:
    """Whether those that are done leave after ``step``; after the last one always."""
    return last or (step + 1) % _EVERY.get() == 0
