"""A recipe as independent jobs: each makes its share of the rows (or seeds) in a folder of its own; a merge puts them
together, and the recipe then finds everything made. So any scheduler can run them, on machines that share only files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from heirloom.runs import IMAGES_OF
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json, write_json
from heirloom.runtime.identity import check_same

Item = TypeVar("Item")
FOLDER, FINISHED = "shards", "shard.json"


class ShardDoneError(Exception):
    """This shard's share is made; the table waits for the merge."""


@dataclass(frozen=True)
class Shard:
    """The ``number``-th, from 1, ``of`` so many."""

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """``"2/4"``; :class:`heirloom.InputError` where it is none."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        holds = found is not None and 1 <= int(found[1]) <= int(found[2])
        require(holds, "shard", "i/n with i from 1 to n, 2/4 say", text)
        assert found is not None
        return Shard(int(found[1]), int(found[2]))

    def folder(self, out: Path) -> Path:
        return out / FOLDER / f"{self.number}-of-{self.of}"


_SHARD: ContextVar[Shard | None] = ContextVar("shard", default=None)


@contextmanager
def working_on(shard: Shard | None) -> Iterator[None]:
    """Recipes inside make only this shard's share; None: all of it."""
    token = _SHARD.set(shard)
    try:
        yield
    finally:
        _SHARD.reset(token)


def share_of(items: Sequence[Item]) -> Sequence[Item]:
    """Those of a recipe's jobs that are this shard's: every n-th."""
    shard = _SHARD.get()
    return items if shard is None else items[shard.number - 1 :: shard.of]


def leave_if_sharded() -> None:
    """Where all of ``share_of``'s are made and the table needs the others'."""
    if _SHARD.get() is not None:
        raise ShardDoneError


def begin(shard: Shard, out: Path) -> None:
    """Give the shard what ``out`` has already, of this recipe and others, so that it is not made again.

    Raises:
        InputError: the shard is of another run than ``out``; nothing is copied then.
    """
    _check_of_one_run([out, shard.folder(out)])
    _take_over(out, shard.folder(out))


def finish(shard: Shard, out: Path, recipe: str) -> None:
    """Note that ``recipe``'s share lies in the shard's folder."""
    place = shard.folder(out) / FINISHED
    known = read_json(place)["recipes"] if place.exists() else []
    write_json(place, {"recipes": sorted({*known, recipe})})


def merge(out: Path, recipe: str) -> None:
    """Copy into ``out`` what the shards under it have made of ``recipe`` and ``out`` has not.

    Raises:
        InputError: there are no shards, one is not finished, or one is of another run; nothing is copied then.
    """
    found = sorted((out / FOLDER).glob("[0-9]*-of-[0-9]*"))
    require(bool(found), "merge", f"given where shards lie under {out / FOLDER}", "none")
    counts = {int(folder.name.rpartition("-")[2]) for folder in found}
    require(len(counts) == 1, "merge", "of shards of one number", f"of {', '.join(map(str, sorted(counts)))}")
    of = counts.pop()
    folders = [Shard(number, of).folder(out) for number in range(1, of + 1)]
    for number, place in enumerate(folders, 1):
        done = (place / FINISHED).exists() and recipe in read_json(place / FINISHED)["recipes"]
        if not done:
            raise InputError(
                "merge", f"after all {of} shards", f"shard {number}/{of} of {recipe} not finished"
            )
    _check_of_one_run([out, *folders])
    for place in folders:
        _take_over(place, out)


def _check_of_one_run(folders: Sequence[Path]) -> None:
    """Raise :class:`InputError` where two of the folders hold runs of one place with other facts or images."""
    first: dict[Path, Path] = {}
    for folder in folders:
        for path in (*folder.rglob("run.json"), *folder.rglob(f"{IMAGES_OF.format('*')}.json")):
            inside = path.relative_to(folder)
            known = first.setdefault(inside, path)
            if FOLDER not in inside.parts and known != path:
                check_same(_deciding(known), _deciding(path), folder)


def _deciding(path: Path) -> Any:
    kept = read_json(path)
    return kept.get("facts", kept)


def _take_over(of: Path, into: Path) -> None:
    """Copy every file but those of shards inside ``of``, where ``into`` has none of that name."""
    for path in sorted(p for p in of.rglob("*") if p.is_file()):
        inside = path.relative_to(of)
        place = into / inside
        if path.name != FINISHED and FOLDER not in inside.parts and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f".{place.name}.part")
            shutil.copyfile(path, aside)
            aside.replace(place)
