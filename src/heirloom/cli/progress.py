"""Progress on standard error: a bar for each stage on a terminal, else a line now and then with the time left.

None when quiet; with every stage's seconds when verbose.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import Progress

from heirloom.cli.output import progress_bar
from heirloom.cli.voice import voice

SECONDS = 30.0  # between two lines of one stage
Tell = Callable[[str, int, int, str], None]


def note(words: str) -> None:
    """A line on standard error for who waits; none when quiet."""
    if not voice().quiet:
        print(words, file=sys.stderr)


@contextmanager
def stage_progress() -> Iterator[Tell]:
    """Yields ``progress(stage, done, in all, words)``; a new stage gets a new bar, or a line of its own."""
    from heirloom.runtime import distributed

    if voice().quiet or not distributed.speaks():
        yield lambda stage, done, total, words: None
    elif not sys.stderr.isatty():
        yield Lines().tell
    else:
        bars = _Bars(progress_bar())
        try:
            yield bars.tell
        finally:
            bars.bar.stop() if bars.stages else None


@dataclass
class _Bars:
    """Bars that appear with the first stage: what is refused before leaves no empty one."""

    bar: Progress
    stages: dict[str, int] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    def tell(self, stage: str, done: int, total: int, words: str) -> None:
        if not self.stages:
            self.bar.start()
        if stage not in self.stages:
            self.begun[stage] = time.perf_counter()
            self.stages[stage] = self.bar.add_task(stage, total=total, status="")
        self.bar.update(self.stages[stage], completed=done, total=total, status=words)  # type: ignore[arg-type]
        if voice().verbose and done >= total and stage in self.begun:
            spent = time.perf_counter() - self.begun.pop(stage)
            self.bar.console.print(f"heirloom: {stage}: {spent:.1f} s")


@dataclass
class Lines:
    """For a log: the first word of a stage, one every ``seconds``, and the last.

    ``clock`` is read for the time that is left, which the speed of the stage so far tells.
    """

    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    write: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    began: dict[str, tuple[float, int]] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def tell(self, stage: str, done: int, total: int, words: str) -> None:
        now = self.clock()
        is_new = stage not in self.began
        if is_new:
            self.began[stage] = (now, done)
        if not is_new and done < total and now - self.told[stage] < self.seconds:
            return
        self.told[stage] = now
        left = "" if is_new or done >= total else self._left(stage, done, total, now)
        if voice().verbose and done >= total:
            left = f" in {now - self.began[stage][0]:.1f} s"
        self.write(f"heirloom: {stage}: {done} of {total}{left}{'; ' + words if words else ''}")

    def _left(self, stage: str, done: int, total: int, now: float) -> str:
        since, first = self.began[stage]
        return f", about {duration((now - since) * (total - done) / max(1, done - first))} left"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``, ``2 days``.

    >>> duration(40), duration(750), duration(3.5 * 3600), duration(2 * 86400)
    ('40 s', '12 min', '3.5 h', '2 days')
    """
    for limit, unit, name in ((100, 1, "s"), (5400, 60, "min"), (86400 * 1.5, 3600, "h")):
        if seconds < limit:
            shown = seconds / unit
            return f"{shown:.1f} {name}" if name == "h" and shown < 10 else f"{shown:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
