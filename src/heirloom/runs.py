"""One run of a command that measures: its folder, what identifies it, its finished stages, its result.

The folder holds ``work/run.json`` (the facts), ``work/stages/`` (what is finished), whatever else is in progress
under ``work/``, and at the end ``summary.json`` and ``report.html``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from heirloom.objectives.defences import caveats_of
from heirloom.report.pages import draw
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import DataUsed, Summary, to_plain
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError, reject
from heirloom.runtime.files import read_json, remove_leftovers, write_json
from heirloom.runtime.identity import open_marker
from heirloom.threat import Threat

WORK, MARKER, STAGES = "work", "run.json", "stages"
IMAGES_OF = "data-{}"  # the stage that keeps the facts of a data set
KEPT_EVERY = 10.0  # seconds between two notes of the time spent
Progress = Callable[[str, int, int, str], None]  # (stage, done, in all, a few words)


def silent(stage: str, done: int, total: int, words: str) -> None:
    """A progress that tells nobody."""


def check_new(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run, before anything is loaded; :class:`Run` looks again."""
    if not resume and (folder / WORK / MARKER).exists():
        reject("out", "a new folder unless resume is given", f"{folder}, which holds a run")


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _says_only_which(path: Path) -> bool:
    """Whether the file says which run it is (its marker), what it was asked for or which images it looked at."""
    images = path.match(f"{STAGES}/{IMAGES_OF.format('*')}.json")
    return path.name in (MARKER, "options.json") or images


@contextmanager
def refused_without_a_trace(folder: Path) -> Iterator[None]:
    """A run that begins inside and is refused before it made anything leaves nothing in ``folder``, whatever lay there:
    a mistyped option is no fact of the next run.
    """
    before = _files(folder)
    try:
        yield
    except InputError:
        new = _files(folder) - before
        if all(map(_says_only_which, new)):
            for path in new:
                path.unlink()
                remove_empty(path.parent, folder)
        raise


def remove_empty(place: Path, folder: Path) -> None:
    """Remove ``place`` and what is above it up to ``folder``, as far as they are empty."""
    for each in (place, *place.parents):
        if not each.is_relative_to(folder) or not each.is_dir() or any(each.iterdir()):
            return
        each.rmdir()


def remove_unbegun(folder: Path) -> None:
    """Remove the folder of a run that was refused before it made anything."""
    if folder.is_dir() and all(map(_says_only_which, _files(folder))):
        shutil.rmtree(folder)


class Run:
    """A run in ``folder``, new or gone on with.

    Args:
        folder: of everything that the run writes.
        facts: digests and values of all that decides its numbers: weights and how they are read, pixels and
            labels, threat, settings, seed. What decides none (device, batch size of a pass, names) stays out.
        resume: go on with the run in ``folder``, if it is the same one. A new folder is no error.
        command: as the result shows it; None: what the user typed.

    Raises:
        InputError: ``folder`` holds a run and ``resume`` is off, or one whose facts differ; they are named.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], *, resume: bool = False, command: str | None = None
    ) -> None:
        self.folder, self.facts, self._watch = folder, to_plain(dict(facts)), Stopwatch(command)
        self._earlier, self._stages = 0.0, dict[str, str]()
        distributed.join()
        if distributed.rank() == 0:
            stored = open_marker(self.path(MARKER), self.facts, resume=resume, place=folder)
            self._earlier = float(stored.get("seconds", 0.0))
            self._stages = dict(stored.get("stages", {}))
            remove_leftovers(folder)
        distributed.wait()

    @property
    def seconds(self) -> float:
        """Spent so far, before an interruption too."""
        return self._earlier + self._watch.seconds

    def counting(self, progress: Progress | None) -> Progress:
        """``progress``, which besides notes the time spent: a run that is killed within a stage loses none of it."""
        noted = self._watch.seconds

        def told(stage: str, done: int, total: int, words: str) -> None:
            nonlocal noted
            if self._watch.seconds - noted >= KEPT_EVERY and distributed.rank() == 0:
                noted = self._watch.seconds
                self._mark()
            (progress or silent)(stage, done, total, words)

        return told

    def _mark(self) -> None:
        facts = {"facts": self.facts, "seconds": round(self.seconds, 2), "stages": self._stages}
        write_json(self.path(MARKER), facts)

    def path(self, *parts: str) -> Path:
        """A place for work in progress: checkpoints, verdicts."""
        return self.folder.joinpath(WORK, *parts)

    def stage(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` returned, as JSON gives it back; made once, then read.

        Under ``torchrun`` every process makes it, and what the first one made is taken.
        """
        stored = self.path(STAGES, f"{name}.json")
        if self.has(name):
            return self._kept(name, stored)
        made = make()
        if distributed.rank() == 0:
            write_json(stored, to_plain(made))
            self._stages[name] = sha256(stored.read_bytes()).hexdigest()
            self._mark()
        distributed.wait()
        return read_json(stored)

    def has(self, name: str) -> bool:
        """Whether that stage is made."""
        return distributed.agreed(self.path(STAGES, f"{name}.json").exists())

    def _kept(self, name: str, stored: Path) -> Any:
        """A finished stage, as it was written: what else stands in its file is no result of this run."""
        found, written = read_json(stored), self._stages.get(name)
        if written is not None and sha256(stored.read_bytes()).hexdigest() != written:
            reject(str(stored), "as this run wrote it (delete it, and it is made again)", "a changed file")
        return found

    def result(self, into: str = "") -> Summary | None:
        """What :meth:`finish` wrote earlier, None where the run is not finished."""
        path = self.folder / into / "summary.json"
        return Summary.read(path) if distributed.agreed(path.exists()) else None

    def finish(
        self,
        kind: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        seed: int,
        device: str = "cpu",
        threat: Threat | None = None,
        data: DataUsed | None = None,
        settings: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        into: str = "",
        seconds: float | None = None,
    ) -> Summary:
        """Write summary.json and report.html, and return the summary; what must be said beside a method's figures goes
        into ``details["caveats"]``.

        Args:
            kind: which page draws it, a key of ``heirloom.report.pages.PAGES``.
            into: a folder of its own inside the run's, where several results share one run.
            seconds: what the result took, where it is not what the run took.
        """
        told = caveats_of(rows)
        details = {**(details or {}), **({"caveats": told} if told else {})}
        summary = self._watch.summary(
            kind,
            rows,
            seed=seed,
            device=device,
            threat=threat,
            data=data,
            settings=settings,
            details=details,
            earlier_seconds=self._earlier if seconds is None else seconds - self._watch.seconds,
        )
        if distributed.rank() == 0:
            summary.write(self.folder / into / "summary.json")
            draw(summary, self.folder / into)
        distributed.wait()
        return summary
