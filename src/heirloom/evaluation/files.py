"""Files that a forward pass writes: found by the interpreter's audit events, kept apart for each copy of a model."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
MOST_BYTES = 2**26  # of a file; what is larger is no cache of a small trial and is left alone
MANY = 2000  # files of a folder
TICK = 0.05  # seconds: a file's time may lag behind the clock's


@dataclass(frozen=True)
class Opened:
    """Paths that were opened, and those of them that were opened to be written."""

    every: set[str]
    written: set[str]


@dataclass(frozen=True)
class File:
    """The content of a file; None: there is none."""

    path: Path

    def get(self) -> bytes | None:
        return self.path.read_bytes() if self.path.is_file() else None

    def set(self, value: bytes | None) -> None:
        if value is None:
            self.path.unlink(missing_ok=True)
        elif value != self.get():
            self.path.write_bytes(value)


@dataclass(frozen=True)
class Folder:
    """The files of a folder that are not older than ``since`` (in seconds, as ``st_mtime``), by their paths in it."""

    path: Path
    since: float

    def get(self) -> dict[str, bytes]:
        files = (each for each in self.path.rglob("*") if each.is_file())
        return {
            str(each.relative_to(self.path)): each.read_bytes()
            for each in files
            if each.stat().st_mtime >= self.since
        }

    def set(self, value: dict[str, bytes]) -> None:
        held = self.get()
        for name in set(held) - set(value):
            (self.path / name).unlink(missing_ok=True)
        for name, content in value.items():
            if held.get(name) != content:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(content)


_LISTENING: list[Opened] = []
_HOOKED: list[
    bool
] = []  # an audit hook cannot be taken away again: one for the process, silent until it is asked


@contextmanager
def recorded() -> Iterator[Opened]:
    """What is opened in the meantime by this process, as far as the interpreter knows."""
    if not _HOOKED:
        _HOOKED.append(True)
        sys.addaudithook(_heard)
    opened = Opened(set(), set())
    _LISTENING.append(opened)
    try:
        yield opened
    finally:
        _LISTENING.remove(opened)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _LISTENING or event not in ("open", "sqlite3.connect", "os.rename"):
        return
    name = arguments[1] if event == "os.rename" else arguments[0]
    if not isinstance(name, str | os.PathLike) or str(name) in ("", ":memory:"):
        return
    path = os.path.abspath(os.fspath(name))
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else WRITING
    for opened in _LISTENING:
        opened.every.add(str(path))
        if flags & WRITING:
            opened.written.add(str(path))


def places(opened: Opened, since: float) -> dict[str, File | Folder]:
    """Where a model that opened these files keeps what it writes, by name.

    Files that were opened to be written, or that are younger than ``since``; where they lie in a folder of their own,
    that folder: one file an image has other names for other images.
    """
    paths, since = [Path(name) for name in opened.every], since - TICK
    kept = [path for path in paths if str(path) in opened.written or _modified(path) >= since]
    kept = [path for path in kept if not path.is_dir() and not _special(path) and _size(path) <= MOST_BYTES]
    if len(kept) > 1:
        folder = Path(os.path.commonpath(kept))
        shared = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), Path("/"), Path("/tmp")}
        if folder not in shared and sum(1 for _ in folder.rglob("*")) <= MANY:
            return {f"the files of {folder.name}": Folder(folder, since)}
    return {f"the file {path.name}": File(path) for path in kept}


def _special(path: Path) -> bool:
    return any(path.is_relative_to(root) for root in ("/dev", "/proc", "/sys")) or path.suffix in (
        ".py",
        ".pyc",
    )


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else float("-inf")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
