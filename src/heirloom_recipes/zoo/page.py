"""The zoo's page: its members side by side, drawn from the summary alone."""

from __future__ import annotations

from typing import Any

from heirloom.objectives.defences import caveats
from heirloom.report.page import Section, Table, Text, page
from heirloom.report.tables import shown
from heirloom.results.schema import Summary

COLUMNS = {
    "model": "model",
    "foundation": "frozen model",
    "defence": "defence",
    "threat": "threat",
    "bare_clean": "bare, clean",
    "bare_worst": "bare, worst case",
    "clean": "defended, clean",
    "worst": "defended, worst case",
    "by": "by",
    "audit": "audit",
}
CAPTION = (
    "In %, with 95 % intervals over test images. The worst case is over all attacks that were run, white-box, through "
    "the whole. Rows are of different images and threats: they do not rank methods."
)


def zoo_page(summary: Summary) -> str:
    """The page as HTML."""
    rows = summary.rows
    gains = sum(row["worst"]["low"] > row["bare_worst"]["high"] for row in rows)
    lead = (
        f"{len(rows)} small defended models, made by one command at scale {summary.settings['scale']}. In {gains} of "
        "them the worst case is higher than without the defence, intervals apart."
    )
    missing = summary.details.get("not covered", [])
    warned = [Text(f"{row['model']}. {warning}") for row in rows for warning in row["warnings"]]
    sections = [
        Section("Side by side", [_table(rows)]),
        Section("What each costs", [_cost(rows)]),
        *([Section("Warnings", warned)] if warned else []),
        *([Section("Not covered", [Text(words) for words in missing])] if missing else []),
    ]
    return page("A zoo of small defended models", lead, sections, summary)


def printed(summary: Summary) -> list[Table]:
    return [_table(summary.rows), _cost(summary.rows)]


def _table(rows: list[dict[str, Any]]) -> Table:
    cells = [[shown(row[key]) for key in COLUMNS] for row in rows]
    told = " ".join([CAPTION, *caveats(row["defence"] for row in rows)])
    return Table(told, list(COLUMNS.values()), cells)


def _cost(rows: list[dict[str, Any]]) -> Table:
    names = ["model", "weights in front", "frozen weights", "seconds, all in", "folder"]
    cells = [
        [
            r["model"],
            f"{r['parameters']:,}",
            f"{r['foundation_parameters']:,}",
            f"{r['seconds']:.0f}",
            r["folder"],
        ]
        for r in rows
    ]
    return Table(
        "Seconds are of training, measuring and auditing, the foundation model's own training left out.",
        names,
        cells,
    )
