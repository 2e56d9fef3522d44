"""The page of a reproduced table, from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.inspection.page import measures
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.results.schema import Difference, Proportion, Summary


def inheritance_page(summary: Summary) -> str:
    """The page as HTML: ours beside the paper's, the orderings with their verdicts, and what was left out."""
    orderings = summary.details["orderings"]
    holding = sum(o["verdict"] == "holds" for o in orderings)
    against = sum(o["verdict"] == "reversed" for o in orderings)
    lead = (
        f"Of the paper's {len(orderings)} orderings, {holding} hold here, {against} are reversed and "
        f"{len(orderings) - holding - against} stay open."
    )
    parts: list[Part] = [_figure(summary), rows_table(summary)]
    under = [row_name(row) for row in summary.rows if _under_constant(row, summary)]
    if under:
        parts.append(
            Text("Not shown to exceed a classifier that always says the same: " + "; ".join(under) + ".")
        )
    missing = summary.details["not covered"]
    if missing:
        parts.append(Text("Not covered at this scale: " + "; ".join(missing) + "."))
    sections = [Section("Accuracy", parts), Section("Orderings", [orderings_table(summary)])]
    title = f"Robustness inheritance, {summary.details['table']} at scale {summary.settings['scale']}"
    return page(title, lead, sections, summary)


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows of a table."""
    return [rows_table(summary), orderings_table(summary)]


def printed_filters(summary: Summary) -> list[Table]:
    """What the terminal shows of the filters."""
    return [measures(summary.rows)]


def rows_table(summary: Summary) -> Table:
    """Ours with intervals beside the paper's, in %, and the classifier that always says the same as the last row."""
    judged = summary.settings["attacks"].split(", ")[0]  # the paper's figure is PGD's
    apart = all(judged in row for row in summary.rows)
    names = ("clean", judged, "robust") if apart else ("clean", "robust")
    rows = []
    for row in summary.rows:
        cells = [row_name(row)]
        for name in names:
            cells.append(str(Proportion.model_validate(row[name])))
            if name in ("clean", judged) or not apart:
                cells.append(_paper(row["paper"]["clean" if name == "clean" else "robust"]))
        rows.append(cells)
    columns = (
        ["clean", "paper", judged, "paper", "worst case"] if apart else ["clean", "paper", "robust", "paper"]
    )
    if "constant" in summary.details:
        constant = str(Proportion.model_validate(summary.details["constant"]))
        rows.append(
            ["always the most frequent class", constant, "", constant, "", *([constant] if apart else [])]
        )
    caption = (
        f"Accuracy in % on CIFAR-10's test images [95 % interval over {_over(summary)}]; "
        f"{columns[-1 if apart else 2]}: over {summary.settings['attacks']}, {summary.threat}."
    )
    return Table(caption, ["pre-training / downstream", *columns], rows)


def _paper(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _over(summary: Summary) -> str:
    return "training seeds" if "seeds" in summary.settings else "images"


def orderings_table(summary: Summary) -> Table:
    """Each claim with our difference, the paper's, and the verdict."""
    rows = []
    for o in summary.details["orderings"]:
        kind = Proportion if "near 0" in o["claim"] else Difference
        ours = str(kind.model_validate(o["ours"]))
        rows.append(
            [o["claim"], o["verdict"], ours, "" if o["paper"] is None else f"{100 * o['paper']:+.1f}"]
        )
    caption = (
        f"Paired differences on the same test images in percentage points [95 % interval over {_over(summary)}]. "
        "Holds, reversed: the interval lies on that side of 0; open: it includes 0."
    )
    return Table(caption, ["claim: pre-training / downstream", "here", "ours", "paper"], rows)


def _under_constant(row: dict[str, Any], summary: Summary) -> bool:
    """Robust accuracy whose interval reaches down to that of a constant classifier."""
    constant = summary.details.get("constant")
    return constant is not None and row["robust"]["low"] <= constant["value"]


def row_name(row: dict[str, Any]) -> str:
    extra = " (no augmentation)" if not row["augmentation"] else ""
    extra += " (equal epochs)" if row.get("equal_epochs") else ""
    data = f"{row['pretrain_data']}: " if row["pretrain_data"] != "cifar10" else ""
    return f"{data}{row['pretrain']}{extra} / {row['downstream']}"


def _figure(summary: Summary) -> Figure:
    rows = summary.rows
    figure, axes = new_axes(figsize=(8.5, 0.42 * len(rows) + 1.2))
    for place, row in enumerate(reversed(rows)):
        for name, colour in (("clean", "#0072B2"), ("robust", "#D55E00")):
            value = row[name]
            axes.plot(
                [100 * value["low"], 100 * value["high"]],
                [place, place],
                color=colour,
                linewidth=3,
                alpha=0.5,
            )
            first = place == 0
            axes.plot(100 * value["value"], place, "o", color=colour, label=name if first else None)
            if row["paper"][name] is not None:
                label = f"{name}, paper" if first else None
                axes.plot(100 * row["paper"][name], place, "x", color=colour, label=label)
    if "constant" in summary.details:
        axes.axvline(100 * summary.details["constant"]["value"], color="#777777", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row_name(row) for row in reversed(rows)], fontsize=9)
    axes.set(xlabel="accuracy (%)", xlim=(-2, 101))
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    told = "Ours (dots, intervals) and the paper's (crosses, under PGD)."
    told += " Dotted: a classifier that always says the same." if "constant" in summary.details else ""
    return Figure(told, data_uri(figure))
