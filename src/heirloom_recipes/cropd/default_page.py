"""The page of the recipe ``cropd/default``, from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.defence.choose import CANDIDATES
from heirloom.objectives.defences import caveats
from heirloom.report.page import Section, Table, Text, page
from heirloom.results.schema import Difference, Proportion, Summary

HOW = (
    "Every candidate is trained on the same images for the same number of epochs, so their seconds differ. All "
    "figures are of images held out of the training images; no test image is looked at."
)
GIVEN = " The given foundation may have learned from the held-out images; no preprocessor and no head did."


def default_page(summary: Summary) -> str:
    """The page as HTML."""
    is_given = summary.settings["foundation"] == "given"
    return page(
        "Which method is the default?",
        _lead(summary),
        [Section("default", [*printed(summary), Text(HOW + (GIVEN if is_given else ""))])],
        summary,
    )


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows."""
    names = ["clean", *summary.settings["attacks"].split(", ")]
    columns = ["images, in front", *names, "ahead of the default", "processor s", ""]
    rows = [
        [
            row["defence"],
            *(str(Proportion.model_validate(row[name])) for name in names),
            "-" if row["ahead"] is None else str(Difference.model_validate(row["ahead"])),
            "-" if row["seconds"] is None else f"{row['seconds']:.0f}",
            "the default" if row["is default"] else "",
        ]
        for row in summary.rows
    ]
    caption = (
        f"Accuracy in % [95 % interval] on held-out training images; eps by data: {summary.settings['eps']}; ahead: "
        "worst case minus the default's, paired on the same images. "
    )
    return [Table(caption + " ".join(caveats(row["method"] for row in summary.rows)), columns, rows)]


def _lead(summary: Summary) -> str:
    """One sentence a data set: whether another candidate is ahead of the default beyond chance."""
    sentences = []
    for name in dict.fromkeys(row["data"] for row in summary.rows):
        own = [row for row in summary.rows if row["data"] == name and row["method"] in CANDIDATES]
        sentences.append(_verdict(name, own))
    return " ".join(sentences)


def _verdict(name: str, rows: list[dict[str, Any]]) -> str:
    usual = next(row["method"] for row in rows if row["is default"])
    ahead = [row for row in rows if row["ahead"] is not None and row["ahead"]["low"] > 0]
    if not ahead:
        return f"On {name} no candidate is ahead of the default, {usual}, beyond chance."
    best = max(ahead, key=lambda row: row["ahead"]["value"])
    difference = Difference.model_validate(best["ahead"])
    return f"On {name} '{best['method']}' is ahead of the default, {usual}, by {difference} points."
