"""The page of ``features build``, drawn from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.report.page import Images, Part, Section, Table, Text, page
from heirloom.report.tables import shown
from heirloom.results.schema import Summary

GRID = (
    "Each row: an image, the image that the descent began at, and what it made of it so that the encoder takes it for "
    "the first. Where the last looks to you like the first, the encoder holds features that you see too; where it "
    "looks like the start, features that it alone sees. Error: of the representation, relative to the original's."
)
MEASURED = (
    "Mean over images ± standard deviation; errors relative, distance L2 in pixel units over the whole image."
)


def features_page(summary: Summary) -> str:
    name, row = summary.settings["name"], summary.rows[-1]
    lead = (
        f"{sum(r['images'] for r in summary.rows)} images that carry what {summary.settings['encoder']} sees in "
        f"{summary.settings['data']}: relative representation error {shown(row['relative_error'])} on the test images "
        f"({shown(row['start_error'])} before)."
    )
    sections = [
        Section("By eye", [grid(summary.details["grid"])]),
        Section("Quality", [quality(summary.rows), Text(_quality(row))]),
    ]
    return page(f"{name[:1].upper()}{name[1:]} features", lead, sections, summary)


def grid(found: dict[str, Any]) -> Part:
    if "examples" not in found:
        return Text("The images were left out of this copy of the result.")
    return Images(GRID, found["columns"], [(label, cells) for label, cells in found["examples"]])


def quality(rows: list[dict[str, Any]]) -> Table:
    columns = [column for column in rows[0] if column not in ("split", "images")]
    cells = [[row["split"], row["images"], *(shown(row[column]) for column in columns)] for row in rows]
    return Table(MEASURED, ["split", "images", *(column.replace("_", " ") for column in columns)], cells)


def _quality(row: dict[str, Any]) -> str:
    left = row["relative_error"]["value"] / max(row["start_error"]["value"], 1e-12)
    lost = row["relative_error"]["value"] - row["unrounded_error"]["value"]
    return (
        f"{100 * left:.0f} % of the start's error is left; rounding to whole grey levels accounts for {lost:.3f}. "
        "More steps or longer ones bring it down; an error near the start's means that this is no data set of the "
        "encoder's features."
    )
