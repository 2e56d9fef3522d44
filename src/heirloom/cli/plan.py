"""What a command will do, told before it begins: stages, time, memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heirloom.cli.progress import duration, note

if TYPE_CHECKING:
    from heirloom.evaluation.preflight import Plan


def announce(out: Path, make: Callable[[], Plan]) -> None:
    """Tell the plan that ``make`` makes, of a new run: one that goes on has told it, and processes that share the
    work would tell it each.
    """
    from heirloom.runtime import distributed

    if (out / "work" / "run.json").exists() or distributed.launched() > 1:
        return
    for line in lines(make()):
        note(f"heirloom: {line}")


def lines(plan: Plan) -> list[str]:
    """The whole, then a line a stage."""
    took = _took(plan.likely_seconds, plan.seconds, " where no image falls")
    first = f"the plan: {took}; about {size(plan.bytes)} of memory beside the images"
    wide = max((len(stage.name) for stage in plan.stages), default=0)
    return [first, *(f"  {s.name:<{wide}}  {_took(s.likely * s.seconds, s.seconds)}" for s in plan.stages)]


def _took(likely: float, most: float, when: str = "") -> str:
    """One time, or two where they read differently."""
    probably, longest = duration(likely), duration(most)
    return longest if probably == longest else f"{probably}, at most {longest}{when}"


def size(count: int) -> str:
    """``640 MB``, ``2.1 GB``.

    >>> size(640_000_000), size(2_100_000_000)
    ('640 MB', '2.1 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
