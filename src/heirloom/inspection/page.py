"""The page of ``inspect``, drawn from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Images, Part, Section, SideBySide, Table, Text, page
from heirloom.results.schema import Summary

MEASURES = {
    "colour_count": "colours",
    "colour_rank": "colour rank",
    "energy_concentration": "energy conc.",
    "spatial_concentration": "spatial conc.",
    "hoyer": "Hoyer",
}
EXPLANATION = (
    "Colours: effective number of colours in a drawn filter. Colour rank: independent colour directions. Energy "
    "concentration: share of a filter's squared weights in its strongest tenth. Spatial concentration: 1 where "
    "all energy sits in one pixel, 0 where it is spread evenly. Hoyer: 0 where all weights are equally large, 1 "
    "where one is left. Purer filters have fewer colours and higher values of the last three. Averages over "
    "filters, weighted by squared norm, with 95 % bootstrap intervals over filters."
)


def inspect_page(summary: Summary) -> str:
    """The page as HTML."""
    lead = "How pure the filters of the first layer are, as pictures and as numbers."
    sections = [Section("Measures", [measures(summary.rows), Text(EXPLANATION)])]
    sections += filter_sections(summary.details["filters"])
    return page("First-layer filters", lead, sections, summary)


def measures(rows: list[dict[str, Any]]) -> Table:
    """Encoders by row, measures by column."""
    cells = [[row["encoder"], *(interval(row[name]) for name in MEASURES)] for row in rows]
    return Table("Measures of the filters, [95 % interval].", ["encoder", *MEASURES.values()], cells)


def interval(value: dict[str, Any]) -> str:
    return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def filter_sections(details: list[dict[str, Any]]) -> list[Section]:
    """Drawings side by side, then, where the run kept its epochs, how they came about."""
    drawn = [Figure(f"{d['name']}: each filter scaled to [0, 1] by itself.", d["mosaic"]) for d in details]
    sections = [Section("Filters", [SideBySide(drawn)])]
    for detail in details:
        if "strip" in detail:
            sections.append(Section(f"Evolution: {detail['name']}", _evolution(detail)))
    return sections


def _evolution(detail: dict[str, Any]) -> list[Part]:
    strip = detail["strip"]
    return [
        Images(
            "The filters that end up strongest, over the epochs.",
            strip["columns"],
            [(name, [(uri, note) for uri, note in cells]) for name, cells in strip["rows"]],
        ),
        Figure("All filters, epoch after epoch (animated).", detail["animation"]),
        _measure_curves(detail["measures"]),
    ]


def _measure_curves(stages: list[dict[str, Any]]) -> Figure:
    figure, axes = new_axes(len(MEASURES), figsize=(11, 2.8))
    for axis, (name, title) in zip(axes, MEASURES.items(), strict=True):
        value, low, high = ([stage[name][key] for stage in stages] for key in ("value", "low", "high"))
        axis.plot(value)
        axis.fill_between(range(len(value)), low, high, alpha=0.2)
        starts = [i for i, stage in enumerate(stages) if stage["stage"] == "adversarial 1"]
        for start in starts:
            axis.axvline(start - 0.5, color="grey", linewidth=0.8, linestyle="--")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
    caption = "The measures over the epochs, bands 95 %; dashed: where the adversarial phase begins."
    return Figure(caption, data_uri(figure))
