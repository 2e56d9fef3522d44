"""Many results on one page, and one of them in the form in which RobustBench lists models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.objectives.defences import caveats_of
from heirloom.report.page import Section, Table, Text, page
from heirloom.report.tables import is_proportion
from heirloom.results.schema import Proportion, Summary
from heirloom.runtime.errors import reject, require
from heirloom.threat import Threat, format_eps

KINDS = ("evaluation", "defence")
# what RobustBench takes (its README and model_info): images of the test set, and the threat, for each data set
ROBUSTBENCH = {
    ("cifar10", "Linf"): (10_000, 8 / 255),
    ("cifar10", "L2"): (10_000, 0.5),
    ("cifar100", "Linf"): (10_000, 8 / 255),
    ("imagenet", "Linf"): (5_000, 4 / 255),
}
# what the name of a data set may hold, the longer before what is part of it
KNOWN = (
    "cifar100",
    "cifar10",
    "imagenette",
    "tinyimagenet",
    "imagenet",
    "fashion",
    "mnist",
    "digits",
    "svhn",
)
GIVEN = {
    "link": str,
    "name": str,
    "authors": str,
    "additional_data": bool,
    "number_forward_passes": int,
    "dataset": str,
    "venue": str,
    "architecture": str,
    "reported": str,
}


@dataclass(frozen=True)
class Entry:
    """One model of one result.

    Attributes:
        worst: the lowest of its columns, or, for a random model, its score over draws.
        audit: ``no sign``, the failed checks by commas, or ``none made``.
        by: the attack that gave ``worst``. folder: the result's, as given.
        seconds: of the attacks, or of the whole where it is not told apart.
    """

    name: str
    group: str
    clean: Proportion
    worst: Proportion
    by: str
    audit: str
    seconds: float
    folder: str


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """The entries of all results, best worst case first, within each group of the same threat and images.

    Raises:
        InputError: a folder without a ``summary.json``, or one of another kind than an evaluation or a defence.
    """
    found = [entry for folder in folders for entry in _entries(Summary.read(folder / "summary.json"), folder)]
    return sorted(found, key=lambda entry: (entry.group, -entry.worst.value, entry.name))


def _entries(summary: Summary, folder: Path) -> list[Entry]:
    require(summary.kind in KINDS, str(folder), f"a result of kind {' or '.join(KINDS)}", summary.kind)
    data = (
        "unknown images" if summary.data is None else f"{summary.data.name}, images {summary.data.digest[:8]}"
    )
    return [_entry(summary, row, f"{summary.threat}, {data}", folder) for row in summary.rows]


def _entry(summary: Summary, row: dict[str, Any], group: str, folder: Path) -> Entry:
    columns = {name: Proportion.model_validate(value) for name, value in row.items() if is_proportion(value)}
    require(
        "clean" in columns and len(columns) > 1,
        str(folder),
        "a result with attacks",
        ", ".join(columns) or "none",
    )
    by, worst = _worst(columns, summary.details)
    name = str(row.get("model", row.get("defence")))
    audited = (
        summary.details.get("audit") if summary.kind == "evaluation" or row is summary.rows[-1] else None
    )
    seconds = summary.details.get("evaluation", {}).get("attack_seconds", summary.seconds)
    return Entry(name, group, columns["clean"], worst, by, _mark(audited), float(seconds), folder.name)


def _worst(columns: dict[str, Proportion], details: dict[str, Any]) -> tuple[str, Proportion]:
    """(attack, lowest share); of a random model the score over draws, since single draws are not its figure."""
    if "draws" in details:
        found = details["draws"]
        return f"worst images, mean of {found['draws']} draws", Proportion.model_validate(found["mean"])
    name = min((name for name in columns if name != "clean"), key=lambda name: columns[name].value)
    return name + (" (one draw)" if details.get("single_draw") else ""), columns[name]


def _mark(audit: dict[str, Any] | None) -> str:
    if audit is None:
        return "none made"
    return ", ".join(audit["failed"]) or "no sign"


def leaderboard_page(summary: Summary) -> str:
    """The page of a leaderboard, drawn from its summary alone."""
    groups: dict[str, list[list[Any]]] = {}
    for row in summary.rows:
        clean, worst = Proportion.model_validate(row["clean"]), Proportion.model_validate(row["worst"])
        mark = (
            row["audit"] if row["audit"] in ("no sign", "none made") else f"NOT TO BE TRUSTED: {row['audit']}"
        )
        cells = [row["name"], worst, row["by"], clean, clean.n, mark, f"{row['seconds']:.0f}", row["folder"]]
        groups.setdefault(row["group"], []).append(cells)
    names = ["model", "worst case", "by", "clean", "images", "audit", "seconds", "folder"]
    caption = "In %, with 95 % intervals over the images; highest worst case first."
    sections = [Section(group, [Table(caption, names, rows, prose=True)]) for group, rows in groups.items()]
    lead = (
        f"{len(summary.rows)} models. Only models in one table were attacked within the same threat on the same "
        "images; intervals that overlap do not tell two models apart, and a marked figure is none."
    )
    if told := caveats_of(summary.rows):
        sections.append(Section("What must be said of these", [Text(each) for each in told]))
    return page("Leaderboard", lead, sections, summary)


def model_info(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """RobustBench's ``model_info`` (12 keys) of the evaluation in ``folder``; ``given``: what no measurement knows.

    Raises:
        InputError: not AutoAttack's standard version, too few images, another threat than RobustBench's, no audit, an
            audit with a sign, or a wrong key in ``given``.
    """
    for key, kind in GIVEN.items():
        require(type(given.get(key)) is kind, key, f"given as {kind.__name__}", given.get(key))
    require(set(given) == set(GIVEN), "model_info", f"of the keys {', '.join(GIVEN)}", ", ".join(given))
    summary = Summary.read(folder / "summary.json")
    require(summary.kind == "evaluation", str(folder), "an evaluation", summary.kind)
    row, threat = summary.rows[0], summary.threat
    require("autoattack" in row, "attacks", "with autoattack, as RobustBench measures", ", ".join(row))
    assert threat is not None
    _check_taken(given["dataset"], threat, row["clean"]["n"])
    _check_images(given["dataset"], summary.data.name if summary.data else "")
    audit = summary.details.get("audit")
    if audit is None or not audit["trusted"]:
        reject("audit", "without a sign", "none made" if audit is None else ", ".join(audit["failed"]))
    measured = {"eps": format_eps(threat.eps), "clean_acc": _percent(row["clean"])}
    return {**given, **measured, "autoattack_acc": _percent(row["autoattack"])}


def _check_taken(dataset: str, threat: Threat, n: int) -> None:
    known = ROBUSTBENCH.get((dataset, threat.norm))
    taken = ", ".join(f"{name} {norm} {format_eps(eps)}" for (name, norm), (_, eps) in ROBUSTBENCH.items())
    if known is None or abs(known[1] - threat.eps) > 1e-9:
        reject("threat", f"one that RobustBench lists ({taken})", f"{dataset} {threat}")
    require(n == known[0], "images", f"{known[0]}, RobustBench's number for {dataset}", n)


def _check_images(dataset: str, name: str) -> None:
    """Raise where the images' name is that of another known data set; a name of the user's own says nothing."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    other = next((known for known in KNOWN if known in plain), dataset)
    require(other == dataset, "dataset", "that of the evaluated images", f"{dataset}, where those are {name}")


def _percent(value: dict[str, Any]) -> str:
    return f"{100 * value['value']:.2f}"
