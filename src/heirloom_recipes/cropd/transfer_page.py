"""The page of the recipe ``cropd/transfer``, from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.objectives.defences import caveats
from heirloom.report.page import Section, Table, Text, page
from heirloom.results.schema import Proportion, Summary
from heirloom_recipes.cropd.beside import ORIGINAL, STUDENT
from heirloom_recipes.cropd.transfer import PLACES

HOW = (
    "Each preprocessor was trained once, in Linf unless it was saved so by others, where it reads a model before the "
    "first one; a linear head is trained behind each pair. The L2 radius stands to the Linf radius as 0.5 to 8/255 on "
    "CIFAR-10, by the root of the number of pixels."
)


def transfer_page(summary: Summary) -> str:
    """The page as HTML."""
    return page(
        "Does a preprocessor transfer?",
        _lead(summary),
        [Section("transfer", [*printed(summary), Text(HOW)])],
        summary,
    )


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows: the worst case in every place, and clean accuracy before either model."""
    names = [place.name for place in PLACES]
    rows = [
        [
            row["defence"],
            *(_share(row["places"][name], "clean") for name in ("as trained", "another model")),
            *(_share(row["places"][name], "robust") for name in names),
        ]
        for row in summary.rows
    ]
    columns = ["in front", "clean", "clean, another model", *names]
    return [
        Table(
            "Accuracy in % [95 % interval over images]; from the third column on in the worst case. "
            + " ".join(caveats(row["defence"] for row in summary.rows)),
            columns,
            rows,
        )
    ]


def _lead(summary: Summary) -> str:
    preprocessors = [row for row in summary.rows if row["defence"] not in (STUDENT, ORIGINAL)]
    best = max(preprocessors, key=lambda row: row["places"]["as trained"]["robust"]["value"])
    there, elsewhere = (_share(best["places"][name], "robust") for name in ("as trained", "another model"))
    return f"'{best['defence']}', the best where it was trained ({there} %), gives {elsewhere} % before another model."


def _share(figures: dict[str, Any] | None, of: str) -> str:
    return "-" if figures is None else str(Proportion.model_validate(figures[of]))
