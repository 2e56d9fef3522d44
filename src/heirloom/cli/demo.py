"""``heirloom demo``: the main job on the embedded digits, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model, summary.json and report.html.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
) -> None:
    """The main job on the embedded digits: pre-train, freeze, defend, measure. No download, about a minute.

    Run again, it prints what is saved; cut off, it goes on.
    """
    import torch

    from heirloom.cli.progress import stage_progress
    from heirloom.defence.demo import run_demo

    torch.set_num_threads(1)  # networks this small lose time to a second thread
    with stage_progress() as progress:
        summary = run_demo(out, seed=seed, progress=progress)
    print_summary(summary, out)


def print_summary(summary: object, out: Path) -> None:
    """The one table of a defence, and where the rest lies."""
    from heirloom.cli.output import print_table
    from heirloom.report.tables import accuracy_table
    from heirloom.results.schema import Summary

    assert isinstance(summary, Summary)
    columns, rows = accuracy_table(summary.rows)
    title = f"Accuracy in % [95 % interval], {summary.settings.get('threat')}, {rows_n(summary)} test images"
    print_table(title, columns, rows)
    print("Each column is the worst case over its attack and all before it.")
    print(f"{out / 'summary.json'}\n{out / 'report.html'}")


def rows_n(summary: object) -> int:
    return summary.rows[0]["clean"]["n"]  # type: ignore[attr-defined]
