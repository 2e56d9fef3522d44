"""The page of ``probe``, drawn from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.report.page import Section, Table, page
from heirloom.report.tables import accuracy_table
from heirloom.results.schema import Summary


def probe_page(summary: Summary) -> str:
    """The page as HTML."""
    found = " ".join(f"{row['downstream'].capitalize()} head: {lead(row)}." for row in summary.rows)
    sections = [Section("Accuracy", [accuracy(summary)])]
    return page("Linear heads on a frozen encoder", found, sections, summary)


def accuracy(summary: Summary) -> Table:
    rows = [
        {k: v for k, v in row.items() if k != "robust"} | {"name": f"{row['pretrain']} / {row['downstream']}"}
        for row in summary.rows
    ]
    columns, cells = accuracy_table(rows, "name")
    caption = (
        "Share of test images classified rightly, in %, with 95 % intervals over the images. Each column is the "
        "worst case over its attack and all before it, through the whole model."
    )
    return Table(caption, ["pre-training / downstream", *columns[1:]], cells)


def lead(row: dict[str, Any]) -> str:
    clean, robust = (100 * row[key]["value"] for key in ("clean", "robust"))
    return f"{clean:.1f} % of the test images are classified rightly, {robust:.1f} % still under attack"
