"""A cell of a table from a value of a summary: mean, spread, interval, the paper's beside it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
TableData = tuple[str, list[str], list[list[str]]]  # title, columns, cells


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return interval(value) if "low" in value else f"{value['value']:.3g} ± {value['sd']:.1g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def spread(cell: Row, times: float = 1, digits: int | None = None) -> str:
    value, sd = cell["value"] * times, cell["sd"] * times
    return f"{value:.2e} ± {sd:.1e}" if digits is None else f"{value:.{digits}f} ± {sd:.{digits}f}"


def beside(row: Row, name: str, times: float = 1, digits: int | None = None) -> str:
    text = spread(row[name], times, digits)
    paper = row.get("paper", {}).get(name)
    if paper is None:
        return text
    value = (paper["value"] if isinstance(paper, dict) else paper) * times
    return f"{text} ({value:.2e})" if digits is None else f"{text} ({value:.{digits}f})"


def with_trial(row: Row, name: str) -> str:
    text = spread(row[name], digits=3)
    trial = row.get("trial", {}).get(name)
    return text if trial is None else f"{text} ({trial:g})"


def interval(cell: Row) -> str:
    if cell["low"] is None:
        return f"{cell['value']:.3f}"
    return f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def verdict(change: Row, *, up: bool) -> str:
    """``yes`` where the 95 % interval of the change lies on the claimed side of 0, ``reversed`` where it lies
    on the other, else ``not shown``.
    """
    if change["low"] is None:
        return "not shown"
    low, high = (change["low"], change["high"]) if up else (-change["high"], -change["low"])
    return "yes" if low > 0 else "reversed" if high < 0 else "not shown"
