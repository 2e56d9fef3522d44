"""Processor seconds of a piece of work, kept beside it and added up where it was cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heirloom.runtime.files import read_json, write_json


@contextmanager
def counted(path: Path, made: Path | None = None) -> Iterator[None]:
    """Add the processor seconds (of all threads) of what runs inside to ``path``, until it has ended once.

    What a killed process spent since it began is lost. Where ``made``, the work's own file, is there and ``path`` is
    not, an older version made it and did not count: then nothing is written, for the rest would be told as the whole.
    """
    before = read_json(path) if path.exists() else {"seconds": 0.0, "finished": False}
    uncounted = made is not None and made.exists() and not path.exists()
    if uncounted or before.get("finished", True):
        yield
        return
    started, ended = time.process_time(), False
    try:
        yield
        ended = True
    finally:
        spent = before["seconds"] + time.process_time() - started
        write_json(path, {"seconds": round(spent, 2), "finished": ended})


def spent(path: Path) -> float | None:
    """The seconds in ``path``; None: nobody counted."""
    return float(read_json(path)["seconds"]) if path.exists() else None
