"""Pages of ``pretrain``, ``probe`` and ``inspect``, each drawn from its summary.json alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.files import write_text
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Images, Part, Section, SideBySide, Table, Text, page
from heirloom.report.tables import accuracy_table
from heirloom.results import Summary

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


def pretrain_page(summary: Summary, path: Path) -> None:
    row = summary.rows[0]
    sections = [
        Section("Training", [_curves(phase, h) for phase, h in summary.details["history"].items()]),
        *filter_sections(summary.details["filters"]),
    ]
    if "clean" in row:
        sections.insert(0, Section("Accuracy", [accuracy(summary)]))
        lead = f"{_lead(row)} under {summary.settings['threat']}."
    else:
        lead = "An encoder trained without labels: `heirloom probe` measures what it is good for."
    title = f"{row['pretrain'].capitalize()} pre-training of {summary.settings['network']}"
    write_text(path, page(title, lead, sections, summary))


def probe_page(summary: Summary, path: Path) -> None:
    lead = " ".join(f"{row['downstream'].capitalize()} head: {_lead(row)}." for row in summary.rows)
    sections = [Section("Accuracy", [accuracy(summary)])]
    write_text(path, page("Linear heads on a frozen encoder", lead, sections, summary))


def inspect_page(summary: Summary, path: Path) -> None:
    lead = "How pure the filters of the first layer are, as pictures and as numbers."
    sections = [Section("Measures", [measures(summary.rows), Text(EXPLANATION)])]
    sections += filter_sections(summary.details["filters"])
    write_text(path, page("First-layer filters", lead, sections, summary))


def accuracy(summary: Summary) -> Table:
    rows = [
        {k: v for k, v in row.items() if k != "robust"} | {"name": f"{row['pretrain']} / {row['downstream']}"}
        for row in summary.rows
    ]
    columns, cells = accuracy_table(rows, "name")
    caption = (
        "Share of test images classified rightly, in %, with 95 % intervals over the images. Each column is the "
        "worst case over its attack and all before it, through the whole model."
    )
    return Table(caption, ["pre-training / downstream", *columns[1:]], cells)


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


def _curves(phase: str, history: list[dict[str, float]]) -> Figure:
    shares = [k for k in history[0] if k not in ("epoch", "learning_rate", "loss")]
    figure, axes = new_axes(2 if shares else 1, figsize=(8.6 if shares else 5, 3.2))
    epochs = [entry["epoch"] for entry in history]
    losses, accuracies = (axes[0], axes[1]) if shares else (axes, None)
    losses.plot(epochs, [entry["loss"] for entry in history], marker=".")
    losses.set(xlabel="epoch", ylabel="training loss")
    if accuracies is not None:
        for name in shares:
            values = [100 * entry[name] for entry in history]
            accuracies.plot(epochs, values, marker=".", label=name.replace("_", " "))
        accuracies.set(xlabel="epoch", ylabel="accuracy (%)")
        accuracies.legend(frameon=False, fontsize=9)
    return Figure(f"The {phase} phase.", data_uri(figure))


def _lead(row: dict[str, Any]) -> str:
    clean, robust = (100 * row[key]["value"] for key in ("clean", "robust"))
    return f"{clean:.1f} % of the test images are classified rightly, {robust:.1f} % still under attack"


PAGES = {"pretrain": pretrain_page, "probe": probe_page, "inspect": inspect_page}
