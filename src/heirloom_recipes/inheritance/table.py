"""One table of the paper at one scale, ours beside its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heirloom.data.labelled import ImageSource
from heirloom.results.schema import Proportion, Summary
from heirloom.results.statistics import proportion
from heirloom_recipes.inheritance.orderings import check_orderings, shown
from heirloom_recipes.inheritance.paper import CONTROLS, TABLES, PaperRow
from heirloom_recipes.inheritance.runner import THREAT, Runner, make_runner
from heirloom_recipes.shards import leave_if_sharded, share_of

SOURCES = "pre-training data"  # the setting that tells where the images lie


def reproduce_table(
    table: str, scale: str, out: Path, *, method: str | None = None, **options: Any
) -> Summary:
    """Run one table at one scale; ``out/<table>`` gets summary.json and report.html; the work is shared.

    Args:
        method: ``supervised`` or ``contrastive``: leave out the rows pre-trained otherwise.
        options: of :func:`make_runner`.

    Raises:
        OutOfTimeError: after ``minutes``; the same call again goes on.
    """
    runner = make_runner(scale, out, **options)
    rows, missing = rows_of(runner, table, method)
    for row in share_of(rows):
        runner.row(row)
    leave_if_sharded()
    found = {row.name: runner.row(row) for row in rows}
    orderings = check_orderings(rows, found)
    return runner.run.finish(
        "inheritance",
        [_figures(row, found[row.name]) for row in rows],
        seed=runner.seed,
        device=runner.device,
        threat=THREAT,
        data=runner.data("cifar10").used(),
        settings=shown_settings(runner, table),
        details={
            "table": table,
            "orderings": orderings,
            "not covered": [shown(row) for row in missing],
            "constant": constant_classifier(runner.data("cifar10")),
        },
        into=table,
        seconds=max(runner.seconds(rows), runner.run.seconds),
    )


def rows_of(
    runner: Runner, table: str, method: str | None
) -> tuple[tuple[PaperRow, ...], tuple[PaperRow, ...]]:
    """(the rows of ``table`` that the run makes, those that it has no images for or that ``method`` leaves out)."""
    wanted = TABLES[table] + (CONTROLS if table == "table-1" and runner.scale.controls else ())
    made = tuple(
        row for row in wanted if runner.covers(row.encoder.data) and method in (None, row.encoder.method)
    )
    return made, tuple(row for row in wanted if row not in made)


def constant_classifier(data: ImageSource) -> Proportion:
    """Accuracy on the test images, attacked or not, of a classifier that always says the training images' most
    frequent class: what any figure has to exceed to mean something."""
    return proportion(data.test.labels == data.train.labels.mode().values)


def row_identity(row: PaperRow) -> dict[str, Any]:
    """What tells a row of a summary from the others."""
    key = row.encoder
    return {
        "pretrain": key.pretrain,
        "downstream": row.downstream,
        "pretrain_data": key.data,
        "stem": key.stem,
        "augmentation": key.augmented,
        "equal_epochs": key.equal_epochs,
    }


def _figures(row: PaperRow, correct: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        **row_identity(row),
        **{name: proportion(verdicts) for name, verdicts in correct.items()},
        "paper": {"clean": row.clean, "robust": row.robust},
    }


def shown_settings(runner: Runner, table: str) -> dict[str, Any]:
    scale = runner.scale
    return {
        "table": table,
        "scale": scale.name,
        "attacks": ", ".join(scale.attacks),
        **({"attack_dtype": scale.attack_dtype} if scale.attack_dtype else {}),
        **({"images of the last attack": scale.worst_case_images} if scale.worst_case_images else {}),
        SOURCES: ", ".join(f"{name} = {runner.sources[name]}" for name in runner.loaded),
        "limit": scale.limit,
        "limit_test": scale.limit_test,
        "networks": str(scale.networks),
        "supervised": str(scale.supervised),
        "contrastive": str(scale.contrastive),
        "heads": str(scale.probe),
    }
