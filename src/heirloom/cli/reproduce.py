"""``heirloom reproduce``: the papers' tables and figures, ours beside the published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli import options

if TYPE_CHECKING:
    from heirloom.results.schema import Summary

INHERITANCE = ("table-1", "table-2", "table-4", "table-5", "filters")
SCALES = ("smoke", "small", "gpu", "paper")


def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(help="inheritance/table-1, table-2, table-4, table-5 or filters.", show_default=False),
    ],
    scale: Annotated[str, typer.Option(help="smoke, small, gpu or paper.")] = "small",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder, shared by a paper's recipes [default: runs/inheritance-SCALE]."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SOURCE, e.g. cifar10=../shared/data/cifar10 [default: the hub]; repeatable."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Only rows pre-trained so: supervised or contrastive.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command again goes on.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Run a recipe: print ours beside the paper's, with intervals, and which orderings hold.

    Finished stages are kept in the folder and shared between recipes; a command that was cut off goes on when
    run again.
    """
    from heirloom.cli.progress import stage_progress
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import require
    from heirloom_recipes.inheritance import recipes
    from heirloom_recipes.inheritance.run import OutOfTimeError

    names = [f"inheritance/{name}" for name in INHERITANCE]
    require(recipe in names, "recipe", f"one of {', '.join(names)}", recipe)
    require(scale in SCALES, "scale", f"one of {', '.join(SCALES)}", scale)
    require(method in (None, "supervised", "contrastive"), "--method", "supervised or contrastive", method)
    require(minutes is None or minutes > 0, "minutes", "above 0", minutes)
    for source in data or []:
        require("=" in source, "--data", "NAME=SOURCE, e.g. cifar10=../shared/data/cifar10", source)
    device = str(torch_device(device))
    name = recipe.partition("/")[2]
    out = out or Path(f"runs/inheritance-{scale}")
    chosen: dict[str, Any] = {
        "sources": dict(source.split("=", 1) for source in data or []),
        "seed": seed,
        "device": device,
        "minutes": minutes,
        "method": method,
    }
    try:
        with stage_progress() as progress:
            chosen["progress"] = progress
            if name == "filters":
                summary = recipes.filters(scale, out, **chosen)
            else:
                summary = recipes.table(name, scale, out, **chosen)
    except OutOfTimeError:
        print(f"{minutes:g} minutes are over: run the same command again to go on.")
        raise typer.Exit(3) from None
    _print(name, summary, out)


def _print(name: str, summary: Summary, out: Path) -> None:
    from heirloom.cli.output import print_table
    from heirloom.inspection.page import measures
    from heirloom_recipes.inheritance.page import orderings_table, rows_table

    tables = (
        [measures(summary.rows)] if name == "filters" else [rows_table(summary), orderings_table(summary)]
    )
    for table in tables:
        print_table(table.caption, table.columns, table.rows)
    if name != "filters" and summary.details["not covered"]:
        print("Not covered at this scale: " + "; ".join(summary.details["not covered"]) + ".")
    options.files_written(out / name)
