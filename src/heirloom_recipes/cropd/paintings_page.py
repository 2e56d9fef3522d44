"""The page of the recipe ``cropd/paintings``, from its summary.json alone."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

from heirloom.objectives.defences import caveats
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Images, Part, Section, Table, Text, page
from heirloom.results.schema import Proportion, Summary

HOW = (
    "One robust student, frozen; every row trains a painter behind it anew, the last three tune student and painter "
    "together. 'read': accuracy on the paintings of clean images of a classifier that had no part in their making. "
    "'unlikeness': squared error over the images' variance, meaned over three scales; 0 is the image, 1 its mean."
)


def paintings_page(summary: Summary) -> str:
    """The page as HTML."""
    parts: list[Part] = [_curve(summary), *printed(summary), Text(HOW), *map(Text, caveats(["distil"]))]
    if shown := summary.details.get("examples"):  # a record is kept without its images
        columns = [str(i + 1) for i in range(len(shown["image"]))]
        rows = [(name, [(uri, "") for uri in uris]) for name, uris in shown.items()]
        parts.append(Images("What the frozen model is shown", columns, rows))
    return page("Paintings that can be recognised", _lead(summary), [Section("paintings", parts)], summary)


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows."""
    attacks = summary.settings["attacks"].split(", ")
    columns = ["painter sees", "clean", *attacks, "read", "unlikeness"]
    rows = [
        [
            row["defence"],
            *(_share(row[name]) for name in ("clean", *attacks, "read")),
            f"{row['unlikeness']:.2f}",
        ]
        for row in summary.rows
    ]
    as_they_are = _share(summary.details["read as they are"])
    for name, row in summary.details["controls"].items():
        is_image = name == "nothing in front"
        own = [as_they_are, "0.00"] if is_image else ["-", "-"]
        rows.append([name, *(_share(row[attack]) for attack in ("clean", *attacks)), *own])
    return [Table("Accuracy in % [95 % interval over images]", columns, rows)]


def _lead(summary: Summary) -> str:
    worst = summary.settings["attacks"].split(", ")[-1]
    first, best = summary.rows[0], max(summary.rows, key=lambda row: row["read"]["value"])
    return (
        f"From features alone {_share(first[worst])} % stand under {worst} and another classifier reads "
        f"{_share(first['read'])} % of the paintings; painted '{best['defence']}' it reads "
        f"{_share(best['read'])} % and {_share(best[worst])} % stand."
    )


def _share(value: dict[str, Any]) -> str:
    return str(Proportion.model_validate(value))


def _curve(summary: Summary) -> Figure:
    drawn = data_uri(cost_of_likeness_drawing(summary))
    return Figure("What a step towards a recognisable picture costs; 95 % intervals over images.", drawn)


def paintings_drawing(summary: Summary, shown: int = 6) -> Any:
    """The first test images and what each painter makes of them; needs a run's images, which a record leaves out."""
    found = summary.details["examples"]
    names = {
        "image": "image",
        **{row["defence"]: row["defence"].replace(", ", ",\n", 1) for row in summary.rows},
    }
    figure = MatplotlibFigure(layout="constrained", figsize=(0.5 * shown + 2.2, 0.5 * len(names)))
    grid = figure.subplots(len(names), shown)
    for axes, (name, label) in zip(grid, names.items(), strict=True):
        for place, uri in zip(axes, found[name], strict=False):
            place.imshow(Image.open(BytesIO(b64decode(uri.partition(",")[2]))), interpolation="nearest")
            place.set_axis_off()
        axes[0].text(-0.15, 0.5, label, transform=axes[0].transAxes, ha="right", va="center", fontsize=7)
    return figure


def cost_of_likeness_drawing(summary: Summary) -> Any:
    """The drawing: what stands under attack over what another classifier reads of the paintings."""
    worst = summary.settings["attacks"].split(", ")[-1]
    figure, axes = new_axes()
    for place, row in enumerate(summary.rows):
        x, y = row["read"], row[worst]
        axes.errorbar(
            100 * x["value"],
            100 * y["value"],
            xerr=[[100 * (x["value"] - x["low"])], [100 * (x["high"] - x["value"])]],
            yerr=[[100 * (y["value"] - y["low"])], [100 * (y["high"] - y["value"])]],
            fmt="os"[place // len(COLOURS)],
            color=COLOURS[place % len(COLOURS)],
            label=row["defence"],
        )
    axes.set_xlabel("paintings that another classifier reads (%)")
    axes.set_ylabel(f"stands under {worst} (%)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return figure
