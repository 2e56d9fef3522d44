"""Several targets of an example in one batch.

A targeted attack on few examples, one target after the other, leaves the machine idle: a pass over 64 images
costs little more than one over 8 on a GPU, and half as much per image on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_AT_ONCE: ContextVar[int] = ContextVar("images_at_once", default=64)


@contextmanager
def images_at_once(most: int) -> Iterator[None]:
    """Let targets share a batch only up to ``most`` images: the harness's answer to memory running out."""
    token = _AT_ONCE.set(min(most, _AT_ONCE.get()))
    try:
        yield
    finally:
        _AT_ONCE.reset(token)


def targets_at_once(examples: int, targets: int) -> int:
    """How many of ``targets`` to attack together for so many examples: as many as fill a batch of 64."""
    return max(1, min(targets, _AT_ONCE.get() // examples))
