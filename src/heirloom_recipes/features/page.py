"""The pages of this paper's recipes, and the tables that the terminal prints, from a summary alone."""

from __future__ import annotations

from typing import Any

from heirloom.features.page import grid
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.results.schema import Summary

TITLES = {
    "table-1": "What standard and adversarial training learn",
    "table-2": "Feature-based targeted attacks",
    "transfer": "Does NRF-PGD transfer between architectures?",
    "planted": "Planted features, recovered",
}
WORDS = {
    "holds": "hold in every case",
    "in a corner": "hold in some cases",
    "does not": "hold in none",
    "open": "stay open",
}
CAPTION = (
    "Mean over {seeds} seeds in % [95 % Student interval over them]; the paper's in brackets. Seeds are few, so "
    "intervals are wide: an open case is one that these runs cannot decide."
)


def recipe_page(summary: Summary) -> str:
    claims = summary.details["claims"]
    counts = {word: sum(found["verdict"] == verdict for found in claims) for verdict, word in WORDS.items()}
    lead = f"Of {len(claims)} claims " + ", ".join(f"{n} {word}" for word, n in counts.items()) + "."
    sections = [Section("Claims", [claims_table(summary)]), Section("Figures", [rows_table(summary)])]
    sections += [
        Section(f"By eye: {found['data']}", [grid(found)]) for found in summary.details.get("grids", [])
    ]
    if summary.details.get("curves"):
        sections.append(Section("Along training", curves(summary.details["curves"])))
    if summary.details.get("quality"):
        sections.append(Section("The representative data sets", [quality_table(summary.details["quality"])]))
    title = f"{TITLES[summary.settings['table']]}, scale {summary.settings['scale']}"
    return page(title, lead, sections, summary)


def printed(summary: Summary) -> list[Table]:
    return [rows_table(summary), claims_table(summary)]


def rows_table(summary: Summary) -> Table:
    names = [name for name in summary.rows[0] if name != "paper"]
    cells = [[_cell(row[name], _published(row, name)) for name in names] for row in summary.rows]
    return Table(CAPTION.format(seeds=summary.settings["seeds"]), names, cells)


def _published(row: dict[str, Any], name: str) -> float | None:
    paper = row.get("paper")
    if isinstance(paper, dict):
        return paper.get(name)
    return paper if name == "success" else None


def _cell(value: Any, paper: float | None) -> str:
    """A share in %, with its interval where it has one, which may go beyond 0 and 100 where it is no proportion."""
    if not isinstance(value, dict):
        return str(value)
    share, low, high = (f"{100 * value[name]:.1f}" for name in ("value", "low", "high"))
    return f"{share} [{low}, {high}]" + (f" ({100 * paper:.1f})" if paper is not None else "")


def claims_table(summary: Summary) -> Table:
    """A line for each claim, then one for each case of it."""
    cells = []
    for found in summary.details["claims"]:
        cells.append([found["claim"], found["verdict"], ""])
        for one in found["cases"]:
            cells.append([f"    {one['where']}", one["verdict"], _points(one["ours"])])
    caption = (
        "Differences in percentage points, seed by seed [95 % Student interval over seeds]. Holds: the interval lies "
        "above 0; reversed: below; open: neither. A claim holds in all its cases, in a corner (some), or does not."
    )
    return Table(caption, ["claim", "here", "by how much"], cells, prose=True)


def quality_table(rows: list[dict[str, Any]]) -> Table:
    names = list(rows[0])
    caption = (
        "Relative representation error of the start and of what was made of it, and L2 distance between the two; mean "
        "over images, then over seeds [95 % interval]."
    )
    cells = [[_number(row[name]) for name in names] for row in rows]
    return Table(caption, [name.replace("_", " ") for name in names], cells)


def _points(value: dict[str, Any]) -> str:
    difference, low, high = (f"{100 * value[name]:+.1f}" for name in ("value", "low", "high"))
    return f"{difference} [{low}, {high}]"


def _number(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"


def curves(found: list[dict[str, Any]]) -> list[Part]:
    """Figures 4 and 5: feature learning accuracy over the kept epochs, a thin line for each seed."""
    parts: list[Part] = [Text("Share of each representative data set that the network gives to its label.")]
    for data in dict.fromkeys(curve["data"] for curve in found):
        own = [curve for curve in found if curve["data"] == data]
        figure, axes = new_axes(len(own), figsize=(9, 3.2))
        for axis, curve in zip(axes, own, strict=True):
            _draw(axis, curve)
        axes[0].set_ylabel("feature learning accuracy (%)")
        axes[0].legend(frameon=False, fontsize=9)
        parts.append(
            Figure(f"{data}: standard and adversarial training; thick: mean over seeds.", data_uri(figure))
        )
    return parts


def _draw(axis: Any, curve: dict[str, Any]) -> None:
    epochs = [entry["epoch"] for entry in curve["seeds"][0]]
    for kind, colour in zip(("non-robust features", "robust features"), COLOURS[1::-1], strict=True):
        lines = [[100 * entry[kind] for entry in seed] for seed in curve["seeds"]]
        for line in lines:
            axis.plot(epochs, line, color=colour, linewidth=0.7, alpha=0.5)
        middle = [sum(values) / len(values) for values in zip(*lines, strict=True)]
        axis.plot(epochs, middle, color=colour, marker=".", label=kind)
    axis.set(xlabel="epoch", title=f"{curve['training']} training", ylim=(0, 101))
