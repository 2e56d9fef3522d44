"""Figures that explain a model rather than measure one: panels of numbers, drawn alike, with a table beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.results.schema import Summary
from heirloom.runs import Run

Panel = dict[str, Any]


def stems(title: str, across: str, **series: Tensor) -> Panel:
    """A panel of values (n,) side by side, one series a colour; underscores in a name are spaces."""
    values = {name.replace("_", " "): _rounded(value) for name, value in series.items()}
    return {"title": title, "across": across, "series": values}


def heat(title: str, across: str, down: str, values: Tensor) -> Panel:
    """A panel of values (rows, columns) as colours, white at 0."""
    return {"title": title, "across": across, "down": down, "map": _rounded(values)}


def _rounded(values: Tensor) -> Any:
    return np.round(values.double().numpy(), 5).tolist()


def finish(
    out: Path,
    name: str,
    seed: int,
    *,
    title: str,
    says: str,
    panels: Sequence[Panel],
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> Summary:
    """Write ``out/<name>``: ``says`` tells what the panels show, ``rows`` are the figures beneath them."""
    run = Run(out / name, {"figure": name, "settings": dict(settings), "seed": seed}, resume=True)
    details = {"title": title, "says": says, "panels": list(panels)}
    return run.finish("illustration", rows, seed=seed, settings=settings, details=details)


def illustration_page(summary: Summary) -> str:
    """The page from its summary.json alone."""
    details = summary.details
    parts: list[Part] = [Figure(details["says"], data_uri(_drawn(details["panels"]))), *printed(summary)]
    if summary.settings.get("inferred"):
        parts.append(Text(str(summary.settings["inferred"])))
    return page(details["title"], details["says"], [Section("Figure", parts)], summary)


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows."""
    names = list(summary.rows[0])
    cells = [[_cell(row[name]) for name in names] for row in summary.rows]
    return [Table(summary.details["title"], [name.replace("_", " ") for name in names], cells)]


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _drawn(panels: Sequence[Panel]) -> Any:
    figure, axes = new_axes(len(panels), figsize=(3.4 * len(panels), 3.2))
    for panel, where in zip(panels, np.atleast_1d(axes), strict=True):
        _draw(where, panel)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    if "map" in panel:
        values = np.asarray(panel["map"])
        bound = float(np.abs(values).max()) or 1.0
        axes.imshow(values, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest")
        axes.set_ylabel(panel["down"], fontsize=9)
    else:
        width = 0.8 / len(panel["series"])
        for number, (name, values) in enumerate(panel["series"].items()):
            places = np.arange(1, len(values) + 1) + (number - (len(panel["series"]) - 1) / 2) * width
            axes.bar(places, values, width, color=COLOURS[number], label=name)
        axes.axhline(0, color="#777777", linewidth=0.6)
        if len(panel["series"]) > 1:
            axes.legend(frameon=False, fontsize=8)
    axes.set_title(panel["title"], fontsize=10)
    axes.set_xlabel(panel["across"], fontsize=9)
    axes.tick_params(labelsize=8)
