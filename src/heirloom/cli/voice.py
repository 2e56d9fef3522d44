"""How much a command says, and the one JSON document that it may say instead. Read by all that prints."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heirloom.results.schema import Summary


@dataclass
class Voice:
    """What ``--json``, ``-q`` and ``-v`` chose, and what the command had to tell.

    Attributes:
        document: what ``--json`` prints, one JSON document; None: nothing was told.
        summary, folder: the result of a command that measures, for :mod:`heirloom.cli.rerun`.
        command: the line as typed, where it is not ``sys.argv``.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    document: Any = None
    summary: Summary | None = None
    folder: Path | None = None
    command: str | None = None


_VOICE: ContextVar[Voice | None] = ContextVar("voice", default=None)


def voice() -> Voice:
    """Of the command that runs; the plain one where none does."""
    return _VOICE.get() or Voice()


def use(chosen: Voice | None) -> Voice | None:
    """Speak with ``chosen`` from now on; returns who spoke before."""
    before = _VOICE.get()
    _VOICE.set(chosen)
    return before


def told(summary: Summary, folder: Path, *files: Path) -> None:
    """Keep a result for ``--json``: the summary without its details (pictures, curves), which lie in the file."""
    now = voice()
    now.summary, now.folder = summary, folder
    shown = summary.model_dump(mode="json", exclude={"details"})
    shown |= {
        key: summary.details[key]
        for key in ("trials", "choice", "remarks", "unjudged", "audit")
        if key in summary.details
    }
    paths = [folder / "summary.json", folder / "report.html", *files]
    now.document = {**shown, "files": [str(path) for path in paths if path.exists()]}
