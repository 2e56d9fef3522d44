"""Progress bars: one for each stage, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heirloom.cli.output import progress_bar


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """Yields ``progress(stage, done, in all, words)``; a new stage gets a new bar."""
    with progress_bar() as bar:
        tasks: dict[str, int] = {}

        def progress(stage: str, done: int, total: int, words: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, status="")
            bar.update(tasks[stage], completed=done, total=total, status=words)  # type: ignore[arg-type]

        yield progress
