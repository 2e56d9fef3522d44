"""Files in which a model remembers: observed by the interpreter's audit events and the files' times, never touched.

No copy of a model has files of its own: to give it some, files of the user would have to be moved while a forward pass
runs, and a process that is killed then would leave them so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
TICK = 0.05  # seconds: a file's time may lag behind the clock's


@dataclass(frozen=True)
class Opened:
    """A file was opened; what is new begins with nothing to read."""

    path: Path
    reads: bool
    writes: bool


def read_back(ask: Callable[[], object]) -> list[str]:
    """Where ``ask``, called twice, reads what its first call wrote: the names of files, or of their folder.

    A file that a call writes before it reads it (a picture saved and opened again) is a means, not a memory. Writes
    that the interpreter does not hear of (``torch.save``) are known by the file's time.
    """
    began = time.time() - TICK
    with recorded() as first:
        ask()
    written = {each.path for each in first if each.writes}
    times = {each.path: _modified(each.path) for each in first}
    with recorded() as second:
        ask()
    heard = {each.path for each in second if each.writes}
    found, seen = [], set[Path]()
    for each in second:
        made_before = each.path in written or began <= times.get(each.path, float("-inf"))
        made_anew = each.path not in heard and _modified(each.path) != times.get(each.path)
        if each.path not in seen and each.reads and made_before and not made_anew and not _special(each.path):
            found.append(each.path)
        seen.add(each.path)
    return _named(found)


_LISTENING: list[list[Opened]] = []
_HOOKED: list[bool] = []  # a hook cannot be taken away again: one for the process, silent until it is asked


@contextmanager
def recorded() -> Iterator[list[Opened]]:
    """What is opened in the meantime by this process, in order, as far as the interpreter knows."""
    if not _HOOKED:
        _HOOKED.append(True)
        sys.addaudithook(_heard)
    opened: list[Opened] = []
    _LISTENING.append(opened)
    try:
        yield opened
    finally:
        _LISTENING[:] = [each for each in _LISTENING if each is not opened]


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _LISTENING or event not in ("open", "sqlite3.connect", "os.rename"):
        return
    name = arguments[1] if event == "os.rename" else arguments[0]
    if not isinstance(name, str | os.PathLike) or str(name) in ("", ":memory:"):
        return
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else os.O_RDWR
    reads = event != "os.rename" and not flags & (os.O_WRONLY | os.O_TRUNC)
    opened = Opened(Path(os.path.abspath(os.fspath(name))), reads, bool(flags & WRITING))
    for each in _LISTENING:
        each.append(opened)


def _named(paths: list[Path]) -> list[str]:
    folders = [path.parent for path in paths]
    names = [
        f"the files of {path.parent.name}" if folders.count(path.parent) > 1 else f"the file {path.name}"
        for path in paths
    ]
    return list(dict.fromkeys(names))


def _special(path: Path) -> bool:
    roots = ("/dev", "/proc", "/sys")
    return any(path.is_relative_to(root) for root in roots) or path.suffix in (".py", ".pyc")


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else float("-inf")
