"""The page of ``theory cropd-bound``: both sides of CRoPD's Theorem 1 over lambda and eps, from its rows alone."""

from __future__ import annotations

from typing import Any

from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.results.schema import Summary
from heirloom.results.statistics import student

Row = dict[str, Any]
HOW = (
    "Theorem 1: adversarial loss <= clean loss + kappa L_con for SOME kappa. One kappa is drawn for all settings, the "
    "least that serves every row, so where the dashed line lies far above the full one the bound says little there; "
    "the least kappa of each setting is beside it. A row whose L_con is not above 0 has none. The premise is that an "
    "attacked latent stays nearer to its own image's than to any of another class."
)


def bound_page(summary: Summary) -> str:
    """The page as HTML."""
    parts: list[Part] = [_drawn(summary.rows), Text(HOW), *printed(summary)]
    return page("Theorem 1, both sides measured", _lead(summary.rows), [Section("Theorem 1", parts)], summary)


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows: a row for each lambda and eps, [95 %] over seeds where there are several."""
    names = ("clean_loss", "adversarial_loss", "contrastive", "least_kappa", "eta_1", "eta_2", "premise")
    cells = [
        [f"{weight:g}", f"{eps:g}", *(_cell(_over_seeds(chosen, name)) for name in names)]
        for (weight, eps), chosen in _settings(summary.rows).items()
    ]
    columns = ["lambda", "eps", "clean loss", "loss under PGD-20", "L_con", "least kappa"]
    columns += ["eta_1", "eta_2", "premise holds for"]
    seeds = len({row.get("seed", 0) for row in summary.rows})
    caption = f"Means over {seeds} seeds [95 % interval]" if seeds > 1 else "One seed"
    return [Table(caption, columns, cells)]


def right_side(rows: list[Row], kappa: float) -> list[Row]:
    """``rows`` with ``right``, clean loss + kappa L_con."""
    return [{**row, "right": row["clean_loss"] + kappa * row["contrastive"]} for row in rows]


def one_kappa(rows: list[Row]) -> float:
    """The least kappa that makes the inequality hold in every row that has one."""
    return max((row["least_kappa"] for row in rows if row["least_kappa"] is not None), default=0.0)


def _settings(rows: list[Row]) -> dict[tuple[float, float], list[Row]]:
    found: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row["weight"], row["eps"]), []).append(row)
    return found


def _over_seeds(rows: list[Row], name: str) -> Row | None:
    values = [row[name] for row in rows]
    if None in values:
        return None
    if len(values) == 1:
        return {"value": values[0], "low": values[0], "high": values[0], "n": 1}
    return student(values, *((0.0, 1.0) if name == "premise" else ()))


def _cell(found: Row | None) -> str:
    if found is None:
        return "none for a seed"
    text = f"{found['value']:.3g}"
    return text if found["n"] == 1 else f"{text} [{found['low']:.3g}, {found['high']:.3g}]"


def _drawn(rows: list[Row]) -> Figure:
    caption = (
        "Full: loss under PGD-20. Dashed: clean loss + kappa L_con, one kappa for all. Bars: 95 % over seeds."
    )
    return Figure(caption, data_uri(bound_drawing(rows)))


def bound_drawing(rows: list[Row]) -> Any:
    """The drawing: both sides, the kappa that each setting needs, and the premise, over eps."""
    figure, (left, middle, right) = new_axes(3, figsize=(11, 3.8))
    every = right_side(rows, one_kappa(rows))
    for number, weight in enumerate(dict.fromkeys(row["weight"] for row in rows)):
        colour, chosen = COLOURS[number % len(COLOURS)], [row for row in every if row["weight"] == weight]
        for axes, name, style, label in (
            (left, "adversarial_loss", "o-", f"lambda {weight:g}, left side"),
            (left, "right", "s--", f"lambda {weight:g}, right side"),
            (middle, "least_kappa", "o-", f"lambda {weight:g}"),
            (right, "premise", "o-", f"lambda {weight:g}"),
        ):
            _curve(axes, chosen, name, {"fmt": style, "color": colour, "label": label})
    left.set(xlabel="eps", ylabel="loss (nats)", title="both sides")
    middle.set(xlabel="eps", ylabel="least kappa", title="the kappa that a setting needs")
    right.set(xlabel="eps", ylabel="share of images", ylim=(0, 1.02), title="the premise")
    for axes in (left, middle):
        axes.legend(fontsize=7)
    return figure


def _curve(axes: Any, rows: list[Row], name: str, style: dict[str, Any]) -> None:
    points = [(eps, _over_seeds(chosen, name)) for (_, eps), chosen in _settings(rows).items()]
    known = [(eps, found) for eps, found in points if found is not None]
    values = [found["value"] for _, found in known]
    below = [found["value"] - found["low"] for _, found in known]
    above = [found["high"] - found["value"] for _, found in known]
    axes.errorbar([eps for eps, _ in known], values, [below, above], capsize=2, ms=4, **style)


def _lead(rows: list[Row]) -> str:
    needed = [row["least_kappa"] for row in rows if row["least_kappa"] is not None]
    without = len(rows) - len(needed)
    said = (
        f"The kappa that the inequality needs lies between {min(needed):.3g} and {max(needed):.3g}"
        if needed
        else ""
    )
    said += f"; in {without} of {len(rows)} rows no kappa will do" if without else ""
    held = [row["premise"] for row in rows]
    return f"{said}. The premise holds for {min(held):.0%} to {max(held):.0%} of the images."
