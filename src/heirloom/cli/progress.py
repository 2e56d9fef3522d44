"""Progress bars: one for each stage, on standard error; none when quiet, with every stage's seconds when verbose."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heirloom.cli.output import progress_bar
from heirloom.cli.voice import voice


def note(words: str) -> None:
    """A line on standard error for who waits; none when quiet."""
    if not voice().quiet:
        print(words, file=sys.stderr)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """Yields ``progress(stage, done, in all, words)``; a new stage gets a new bar."""
    if voice().quiet:
        yield lambda stage, done, total, words: None
        return
    begun: dict[str, float] = {}
    with progress_bar() as bar:
        tasks: dict[str, int] = {}

        def progress(stage: str, done: int, total: int, words: str) -> None:
            if stage not in tasks:
                begun[stage] = time.perf_counter()
                tasks[stage] = bar.add_task(stage, total=total, status="")
            bar.update(tasks[stage], completed=done, total=total, status=words)  # type: ignore[arg-type]
            if voice().verbose and done >= total and stage in begun:
                bar.console.print(f"heirloom: {stage}: {time.perf_counter() - begun.pop(stage):.1f} s")

        yield progress
