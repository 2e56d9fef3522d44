"""Result rows as table cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heirloom.results.schema import Mean, Proportion

LABELS = {
    "clean": "clean",
    "pgd-10": "PGD-10",
    "pgd-20": "PGD-20",
    "strong": "strong",
    "cascade": "cascade",
    "autoattack": "AutoAttack",
    "adaptive": "adaptive",
}


def is_proportion(value: Any) -> bool:
    return isinstance(value, Proportion) or (
        _has_interval(value) and 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    )


def _has_interval(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value", "low", "high", "n"}


def shown(value: Any) -> str:
    """A cell: proportions in % with their interval, other numbers with theirs (a difference, say), means with
    their spread, floats to four digits.
    """
    if is_proportion(value):
        return str(Proportion.model_validate(value))
    if _has_interval(value):
        return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    if isinstance(value, dict) and set(value) == {"value", "sd", "n"}:
        return str(Mean.model_validate(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def accuracy_table(
    rows: Sequence[dict[str, Any]], name: str = "defence", one_draw: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """(columns, rows): the name, then every column that holds proportions, in the order of the first row.

    ``one_draw``: columns measured on a single draw of a random model; they are marked.
    """
    columns = [key for key, value in rows[0].items() if is_proportion(value)]
    cells = [[str(row[name]), *(shown(row[key]) if key in row else "" for key in columns)] for row in rows]
    marked = [LABELS.get(key, key) + (" (one draw)" if key in one_draw else "") for key in columns]
    return [name, *marked], cells
