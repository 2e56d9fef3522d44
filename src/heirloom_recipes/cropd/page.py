"""The pages of CRoPD's reproduced tables, from their summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.objectives.defences import caveats
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Images, Part, Section, Table, Text, page
from heirloom.results.schema import Difference, Proportion, Summary
from heirloom.threat import format_eps

MARKS = ("o", "s", "^")
SMALLEST, LARGEST = 15, 400  # areas of marks, in points squared: no training, and what the dearest adds
WHY = (
    "The paper's AutoAttack stands above its PGD-10 in many rows, which no fixed model allows; our columns are the "
    "worst case over an attack and all before it, so they can only fall. A dash: the paper does not give the figure."
)


def cropd_page(summary: Summary) -> str:
    """The page as HTML."""
    is_picture = summary.settings["table"] == "trade-off" and bool(summary.rows)
    parts: list[Part] = [trade_off(summary)] if is_picture else []
    parts += printed(summary)
    if summary.rows and "paper" in summary.rows[0]:
        parts.append(Text(WHY))
    parts += _drawn(summary)
    if missing := summary.details["not covered"]:
        parts.append(Text("Not covered at this scale: " + "; ".join(missing) + "."))
    name = summary.settings["table"]
    title = f"CRoPD, {name} at scale {summary.settings['scale']}"
    return page(title, _lead(summary), [Section(name, parts)], summary)


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows."""
    rows = summary.rows
    if not rows:
        return [Table("No row is covered at this scale: name data with --data.", ["defence"], [])]
    if "paper" not in rows[0]:
        columns = [name for name in rows[0] if name != "defence"]
        cells = [[row["defence"], *(_plain(row[name]) for name in columns)] for row in rows]
        caption = f"{summary.settings['table']}, ours{_caveat(summary)}"
        return [Table(caption, ["", *columns], cells), *_published(summary)]
    names = ["clean", *summary.settings["attacks"].split(", ")]
    columns = [column for name in names for column in (name, "paper")]
    cells, has_gains = [], any(row.get("gain") for row in rows)
    columns += ["more than nothing"] if has_gains else []
    for row in rows:
        line = [row["defence"]]
        for name in names:
            line += [str(Proportion.model_validate(row[name])), _paper(row["paper"], name, names)]
        cells.append([*line, _gain(row)] if has_gains else line)
    caption = f"Accuracy in % [95 % interval over images], ours and the paper's; eps by data: {summary.settings['eps']}"
    caption += "; last, the worst case less that of nothing in front, in points, paired" if has_gains else ""
    return [Table(caption + _caveat(summary), ["images, in front", *columns], cells)]


def _gain(row: dict[str, Any]) -> str:
    return str(Difference.model_validate(row["gain"])) if row.get("gain") else "-"


def _methods(summary: Summary) -> list[str]:
    """The methods in the rows' names."""
    return [part for row in summary.rows for part in row["defence"].split(", ")]


def _caveat(summary: Summary) -> str:
    """For the caption: what must not be left unsaid on a terminal either."""
    return "".join(f". {told.rstrip('.')}" for told in caveats(_methods(summary)))


def trade_off(summary: Summary) -> Figure:
    """Clean accuracy against the worst case, as a part of the page."""
    return Figure(
        "Clean accuracy against the worst case; a mark's area grows with the processor seconds of its training, that "
        "of a foundation which met attacks included (the smallest: none; hollow: not counted). A line joins one "
        "method's weights, which are written beside its marks.",
        data_uri(trade_off_drawing(summary)),
    )


def trade_off_drawing(summary: Summary) -> Any:
    """The drawing: a panel for each data set and eps; the area of a mark is what its training cost."""
    worst = summary.settings["attacks"].split(", ")[-1]
    panels = sorted({(row["data"], row["eps"]) for row in summary.rows})
    width = max(6.0, 4.2 * len(panels))  # room for the legend under a single panel
    figure, drawn = new_axes(len(panels), figsize=(width, 4.6))
    drawn = [drawn] if len(panels) == 1 else list(drawn)
    scale = LARGEST / max(1.0, *(_spent(row) or 0.0 for row in summary.rows))
    for (data, eps), axes in zip(panels, drawn, strict=True):
        _marks(axes, [row for row in summary.rows if (row["data"], row["eps"]) == (data, eps)], worst, scale)
        axes.set_title(f"{data}, eps {format_eps(eps)}")
        axes.set_xlabel(f"worst case under {worst} (%)")
    first = drawn[0]
    first.set_ylabel("clean (%)")
    columns = int(width / 1.6)
    shown = figure.legend(
        *first.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8
    )
    handles: Any = shown.legend_handles
    for handle in handles:
        handle.set_sizes([25])  # a mark's size tells of a row, not of a method
    return figure


def _marks(axes: Any, rows: list[dict[str, Any]], worst: str, scale: float) -> None:
    for place, method in enumerate(dict.fromkeys(map(_kind, rows))):
        own = [row for row in rows if _kind(row) == method]
        x, y = ([100 * row[name]["value"] for row in own] for name in (worst, "clean"))
        colour, mark = COLOURS[place % len(COLOURS)], MARKS[place // len(COLOURS)]
        axes.plot(x, y, color=colour, linewidth=0.8)
        spent = [_spent(row) for row in own]
        sizes = [40 if cost is None else SMALLEST + scale * cost for cost in spent]
        faces = ["none" if cost is None else colour for cost in spent]
        axes.scatter(
            x, y, s=sizes, alpha=0.75, label=method, facecolors=faces, edgecolors=colour, marker=mark
        )
        weights = [(row["weight"], point) for row, *point in zip(own, x, y, strict=True)]
        for number, (weight, point) in enumerate(each for each in weights if each[0] is not None):
            beside = (3, 6) if number % 2 == 0 else (3, -12)  # neighbours' labels on either side
            axes.annotate(f"{weight:g}", point, beside, textcoords="offset points", fontsize=7)


def _spent(row: dict[str, Any]) -> float | None:
    """What a mark's size tells; records from before foundations and students were counted by themselves know less."""
    if "cost" in row:
        cost: float | None = row["cost"]
        return cost
    known = row["foundation"] == "frozen" and row["method"] != "student alone"
    return float(row["seconds"]) if known else None


def _kind(row: dict[str, Any]) -> str:
    """What one mark's colour and shape stand for."""
    return str(row["method"] if row["foundation"] == "frozen" else f"{row['method']}, {row['foundation']}")


def _published(summary: Summary) -> list[Table]:
    paper = summary.details.get("paper")
    if paper is None:
        return []
    columns = ["hours on an A100", "CRoPD", "head", "fine-tuning", "fine-tuning under attack"]
    hours = [[name, *hours] for name, hours in paper["hours"].items()]
    counts = [[name, f"{count:.1e}"] for name, count in paper["parameters"].items()]
    return [
        Table("The paper's Table 11", columns, hours),
        Table("The paper's Table 12, images of 32 pixels", ["", "parameters"], counts),
    ]


def _lead(summary: Summary) -> str:
    rows = [row for row in summary.rows if "paper" in row]
    worst = summary.settings["attacks"].split(", ")[-1]
    if not rows:
        return f"{len(summary.rows)} preprocessors on the same images."
    alike: dict[Any, list[dict[str, Any]]] = {}  # rows of one data set and radius alone can be compared
    for row in rows:
        alike.setdefault((row["data"], row["eps"]), []).append(row)
    return " ".join(_best(group, worst) for group in alike.values())


def _best(rows: list[dict[str, Any]], worst: str) -> str:
    best = max(rows, key=lambda row: row[worst]["value"])
    return (
        f"Of {len(rows)} rows on {best['data']}, '{best['defence']}' stands best under {worst}: "
        f"{Proportion.model_validate(best[worst])} %."
    )


def _paper(paper: dict[str, Any], name: str, names: list[str]) -> str:
    """The paper's column of the same attack; its AutoAttack beside our worst case."""
    value = paper.get("autoattack" if name == names[-1] else name)
    return "-" if value is None else f"{100 * value:.1f}"


def _plain(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _drawn(summary: Summary) -> list[Part]:
    found = summary.details.get("examples", {})
    parts: list[Part] = []
    for method, images in found.items():
        rows = [(name, [(uri, "") for uri in uris]) for name, uris in images.items()]
        count = len(rows[0][1])
        parts.append(
            Images(f"{method}: what the frozen model is shown", [str(i + 1) for i in range(count)], rows)
        )
    return parts
