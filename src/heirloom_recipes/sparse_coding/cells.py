"""A cell of a table from a value of a summary: mean, spread, interval, the paper's beside it."""

from __future__ import annotations

from typing import Any

from heirloom_recipes.sparse_coding.intervals import interval_of

Row = dict[str, Any]
TableData = tuple[str, list[str], list[list[str]]]  # title, columns, cells


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return _short(value) if "low" in value else f"{value['value']:.3g} ± {value['sd']:.1g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _short(cell: Row) -> str:
    """Three digits, whatever the size; what cannot vary has no interval."""
    if cell["low"] is None or cell["low"] == cell["high"]:
        return f"{cell['value']:.3g}"
    return f"{cell['value']:.3g} [{cell['low']:.3g}, {cell['high']:.3g}]"


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


def of_mean(cell: Row, times: float = 1, digits: int = 3) -> str:
    """A mean with the 95 % Student interval that its spread over repeats gives; one repeat has none."""
    found, value = interval_of(cell), cell["value"] * times
    if found["low"] is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{found['low'] * times:.{digits}f}, {found['high'] * times:.{digits}f}]"


def verdict(change: Row, *, up: bool) -> str:
    """``yes`` where the 95 % interval of the change lies on the claimed side of 0, ``reversed`` where it lies
    on the other, else ``not shown``.
    """
    if change["low"] is None:
        return "not shown"
    low, high = (change["low"], change["high"]) if up else (-change["high"], -change["low"])
    return "yes" if low > 0 else "reversed" if high < 0 else "not shown"
