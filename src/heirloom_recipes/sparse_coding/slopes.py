"""Slopes: the measured one beside the paper's and the closed form's, and what to call the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from heirloom_recipes.sparse_coding.theorem_setting import Row

NO_RATE = "no rate"  # the statement has none in this variable
Point = tuple[float, float, float | None]  # x, measured, closed form at this size


def log_slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares slope of log y in log x; not a number where some y is not above 0."""
    if any(y <= 0 for _, y in points):
        return math.nan
    x, y = torch.tensor([[math.log(a), math.log(b)] for a, b in points], dtype=torch.float64).T
    return float(((x - x.mean()) * y).sum() / (x - x.mean()).square().sum())


def slope(points: Sequence[Point], theory: float | str) -> Row:
    """``theory`` is the paper's rate; the closed form's slope is over the same points at this size."""
    closed = [(x, value) for x, _, value in points if value is not None]
    return {
        "measured": log_slope([(x, y) for x, y, _ in points]),
        "theory": theory,
        "closed_form": log_slope(closed) if len(closed) == len(points) else "-",
    }


def verdict(row: Row) -> str:
    """Of a row whose ``measured`` is an interval: is the paper's rate in it, and if not, the closed form's?"""
    measured, theory, closed = row["measured"], row["theory"], row["closed_form"]
    if not isinstance(measured, dict) or measured["low"] is None:
        return "-"
    if theory == NO_RATE:
        return "no rate to compare with"
    if theory == "vanishes":
        return "not told from 0" if _side(measured, 0) == "within" else "off 0"
    if theory == ">> 1":
        return {"within": "not told from 1"}.get(_side(measured, 1), f"{_side(measured, 1)} 1")
    value = closed["value"] if isinstance(closed, dict) else closed
    at_size = _side(measured, value) if isinstance(value, float) else "-"
    if theory == "-":
        return {"-": "-", "within": "the closed form"}.get(at_size, f"{at_size} the closed form")
    side = _side(measured, float(theory))
    if side == "within":
        return "the rate"
    return f"{side} the rate" + (", as at this size it must be" if at_size == "within" else "")


def _side(measured: dict[str, Any], value: float) -> str:
    if measured["low"] > value:
        return "above"
    return "below" if measured["high"] < value else "within"
