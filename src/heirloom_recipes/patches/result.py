"""What one experiment hands on: rows for the summary, details for its page, a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from heirloom.report import Table
from heirloom.results.schema import Proportion
from heirloom.results.statistics import proportion


@dataclass(frozen=True)
class ExperimentResult:
    """``rows`` all carry ``"experiment"``; ``details`` is JSON that the page is drawn from, its tables
    included
    under ``"tables"`` as {caption, columns, rows}."""

    experiment: str
    rows: list[dict[str, Any]]
    details: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            row["experiment"] = self.experiment


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table as details hold it: every cell as its text."""
    return {
        "caption": caption,
        "columns": list(columns),
        "rows": [[cell if isinstance(cell, str) else str(cell) for cell in row] for row in rows],
    }


def page_tables(details: dict[str, Any]) -> list[Table]:
    return [Table(t["caption"], t["columns"], t["rows"]) for t in details["tables"]]


def exact(value: float, points: int) -> Proportion:
    """An accuracy over the whole population: no sampling, so no interval around it."""
    return Proportion(value=value, low=value, high=value, n=points)


def sampled(value: float, points: int) -> Proportion:
    """An accuracy over ``points`` sampled test points."""
    return proportion(torch.arange(points) < round(value * points))


def percent(value: float) -> str:
    return f"{100 * value:.0f}"
