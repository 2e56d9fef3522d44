"""The pages of CRoPD's reproduced tables, from their summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.report.page import Images, Part, Section, Table, Text, page
from heirloom.results.schema import Proportion, Summary

WHY = (
    "The paper's AutoAttack stands above its PGD-10 in many rows, which no fixed model allows; our columns are the "
    "worst case over an attack and all before it, so they can only fall. A dash: the paper does not give the figure."
)


def cropd_page(summary: Summary) -> str:
    """The page as HTML."""
    parts: list[Part] = [*printed(summary)]
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
        return [Table(f"{summary.settings['table']}, ours", ["", *columns], cells), *_published(summary)]
    names = ["clean", *summary.settings["attacks"].split(", ")]
    columns = [column for name in names for column in (name, "paper")]
    cells = []
    for row in rows:
        line = [row["defence"]]
        for name in names:
            line += [str(Proportion.model_validate(row[name])), _paper(row["paper"], name, names)]
        cells.append(line)
    caption = f"Accuracy in % [95 % interval over images], ours and the paper's; eps by data: {summary.settings['eps']}"
    return [Table(caption, ["images, in front", *columns], cells)]


def _published(summary: Summary) -> list[Table]:
    paper = summary.details.get("paper")
    if paper is None:
        return []
    columns = ["hours on an A100", "CRoPD", "head", "fine-tuning", "fine-tuning under attack"]
    return [
        Table("The paper's Table 11", columns, [[name, *hours] for name, hours in paper["hours"].items()])
    ]


def _lead(summary: Summary) -> str:
    rows = [row for row in summary.rows if "paper" in row]
    worst = summary.settings["attacks"].split(", ")[-1]
    if not rows:
        return f"{len(summary.rows)} preprocessors on the same images."
    best = max(rows, key=lambda row: row[worst]["value"])
    return (
        f"Of {len(rows)} rows, '{best['defence']}' stands best under {worst}: "
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
