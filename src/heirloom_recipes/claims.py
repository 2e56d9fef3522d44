"""Whether a claim of the paper holds here: intervals over seeds, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heirloom.results.statistics import student

NEAR_ZERO, LOW = 0.05, 0.25


def case(where: str, differences: Sequence[float], most: float = 1.0) -> dict[str, Any]:
    """One test of a claim, which says that ``differences`` (a seed each) lie above 0.

    ``{"where", "ours": {"value", "low", "high", "n"}, "verdict"}``: ``holds`` or ``reversed`` where the 95 % Student
    interval over the seeds lies on one side of 0, else ``open``. ``most``: how large a difference can be.
    """
    ours = student(differences, -most, most)
    verdict = "holds" if ours["low"] > 0 else "reversed" if ours["high"] < 0 else "open"
    return {"where": where, "ours": ours, "verdict": verdict}


def claim(text: str, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``{"claim", "verdict", "cases"}``: it ``holds`` in all cases, ``in a corner``: in some, ``does not``: in none and
    is reversed in one, ``open``: these runs decide nothing."""
    found = [one["verdict"] for one in cases]
    verdict = "does not" if "reversed" in found else "open"
    if "holds" in found:
        verdict = "holds" if set(found) == {"holds"} else "in a corner"
    return {"claim": text, "verdict": verdict, "cases": list(cases)}


def gaps(higher: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Seed by seed."""
    return [a - b for a, b in zip(higher, lower, strict=True)]


def below(bound: float, values: Sequence[float]) -> list[float]:
    return [bound - value for value in values]
