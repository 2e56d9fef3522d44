"""``heirloom reproduce zoo``: every member made, defended, measured, and all of them compared.

    heirloom reproduce zoo --scale small --data mnist=DATA/mnist --data cifar10=DATA/cifar10 ...
    heirloom reproduce zoo --scale small --only mnist --data mnist=DATA/mnist

OUT/NAME is a saved defence (card, figures, audit, page) that ``heirloom show`` and ``evaluate`` take; OUT/report.html
compares all that OUT holds. Each member is a piece of its own: it is made alone, kept when finished, and made anew when
its folder is deleted, whatever the others are. What is missing is told under "not covered": a data set that is not
within reach, what ``--only`` left out, what ``--minutes`` left no time for. Weights stay where they were made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from heirloom.data.images import load_images
from heirloom.results.schema import DataUsed, Summary
from heirloom.runs import MARKER, STAGES, WORK, Progress, Run
from heirloom.runtime.errors import InputError, reject
from heirloom.runtime.files import read_json
from heirloom.runtime.identity import differing
from heirloom_recipes.catalogue import OutOfTimeError
from heirloom_recipes.zoo.defended import ATTACKS, row_of, within_reach
from heirloom_recipes.zoo.members import MEMBERS, Member

FEW = 20  # images that a place is tried with


@dataclass(frozen=True)
class _Piece:
    """A member's place in the zoo's folder. ``given``: the source that was asked for, None: as it began, or its own."""

    member: Member
    scale: str
    seed: int
    folder: Path
    given: str | None

    @property
    def place(self) -> Path:
        return self.folder / WORK / "member"

    @property
    def stored(self) -> dict[str, Any]:
        """The facts that it was begun with, none where it is not."""
        marker = self.place / WORK / MARKER
        return dict(read_json(marker)["facts"]) if marker.exists() else {}

    @property
    def source(self) -> str | None:
        return self.given or self.stored.get("source")

    @property
    def facts(self) -> dict[str, Any]:
        """What decides its figures, as JSON gives it back."""
        member = asdict(replace(self.member, sizes={}))
        size = asdict(self.member.sizes[self.scale])
        return {"seed": self.seed, "source": self.source, **member, "size": size}

    @property
    def others(self) -> str:
        """The facts, by name, in which what lies there differs from what it would be made of now."""
        return ", ".join(differing(self.stored, self.facts)) if self.stored else ""

    @property
    def finished(self) -> bool:
        return (self.place / WORK / STAGES / "row.json").exists()

    def row(self, device: str, told: Progress) -> dict[str, Any]:
        """Made once, read then.

        Raises:
            InputError: it is not finished, and its images or its model are not within reach.
        """
        if self.finished:
            return dict(read_json(self.place / WORK / STAGES / "row.json"))
        member, scale = self.member, self.scale
        data = within_reach(member, scale, self.source, self.seed)
        run = Run(self.place, self.facts, resume=True)
        made = partial(row_of, member, data, scale, self.folder, self.seed, device, run.counting(told))
        return dict(run.stage("row", made))


def zoo(
    scale: str,
    out: Path,
    *,
    only: Sequence[str] | None = None,
    sources: dict[str, str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    minutes: float | None = None,
) -> Summary:
    """Make what is not made yet, one member after the other, and compare all that ``out`` holds.

    Args:
        only: names of members; None or empty: all. sources: where the images of a member come from, by its name.

    Raises:
        InputError: ``only`` or ``sources`` name a member that is not there, ``out`` holds another zoo, or a member of
            ``only`` that was made otherwise.
        OutOfTimeError: ``minutes`` are over; finished members are kept, and the page shows them.
    """
    given, begun = dict(sources or {}), time.perf_counter()
    names = [member.name for member in MEMBERS]
    for argument, asked in (("data", given), ("only", only or ())):
        for name in asked:
            if name not in names:
                reject(argument, f"named {', '.join(names)}", name)
    run = Run(out, {"scale": scale, "seed": seed}, resume=True)
    told = run.counting(progress)
    pieces = [_Piece(member, scale, seed, out / member.name, given.get(member.name)) for member in MEMBERS]
    chosen = [piece for piece in pieces if not only or piece.member.name in only]
    for piece in chosen:
        if piece.others:
            differing_so = f"{piece.folder}, made with another {piece.others} (delete it, or leave it out)"
            reject("only", "members that are not there yet, or there as they would be made now", differing_so)
        if piece.given and not piece.finished:
            load_images(
                piece.given, limit=FEW, limit_test=FEW, seed=seed
            )  # a wrong place is told before any work
    rows, missing = [], dict[str, str]()
    for number, piece in enumerate(pieces):
        name = piece.member.name
        over = minutes is not None and time.perf_counter() - begun > 60 * minutes
        if piece.finished and piece.others:
            missing[name] = f"made with another {piece.others}"
        elif not piece.finished and (piece not in chosen or over):
            missing[name] = "the time was over before it" if piece in chosen else "left out by --only"
        else:
            told("zoo", number, len(pieces), name)
            try:
                rows.append(piece.row(device, told))
            except InputError as error:
                if piece.source is not None or piece.stored:
                    raise
                missing[name] = str(error)
    told("zoo", len(pieces), len(pieces), "")
    summary = run.finish(
        "zoo",
        rows,
        seed=seed,
        device=device,
        data=DataUsed(
            name=", ".join(row["model"] for row in rows), train=0, test=0, digest="of each row's own"
        ),
        settings={"scale": scale, "attacks": ", ".join(ATTACKS)},
        details={"not covered": [f"{name} ({why})" for name, why in missing.items()]},
    )
    if "the time was over before it" in missing.values():
        raise OutOfTimeError
    return summary
