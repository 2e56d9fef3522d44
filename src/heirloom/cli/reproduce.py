"""``heirloom reproduce``: the papers' tables and figures, ours beside the published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heirloom.cli import options


def _recipes(incomplete: str) -> list[str]:
    from heirloom_recipes.catalogue import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def _scales(incomplete: str) -> list[str]:
    from heirloom_recipes.catalogue import RECIPES

    return [
        name for name in dict.fromkeys(s for r in RECIPES for s in r.scales) if name.startswith(incomplete)
    ]


def _members(incomplete: str) -> list[str]:
    from heirloom_recipes.zoo.members import MEMBERS

    return [member.name for member in MEMBERS if member.name.startswith(incomplete)]


def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(
            help="PAPER/TABLE, e.g. inheritance/table-1, or zoo; a name that is none lists all.",
            show_default=False,
            autocompletion=_recipes,
        ),
    ],
    scale: Annotated[
        str,
        typer.Option(help="smoke, small, gpu or paper; inheritance: medium too.", autocompletion=_scales),
    ] = "small",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder, shared by a paper's recipes [default: runs/PAPER-SCALE]."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SOURCE, e.g. cifar10=../shared/data/cifar10 [default: the hub]; repeatable."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="inheritance: only rows pre-trained so, supervised or contrastive.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="inheritance: channels of the networks' first stage.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="inheritance: so many training runs, intervals over them.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="zoo: this member alone, e.g. mnist; repeatable.", autocompletion=_members),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command again goes on.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: make every n-th row (or seed) alone, beside the others.")
    ] = None,
    merge: Annotated[bool, typer.Option(help="Put together what all shards have made.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option(help="cropd: let code that --data foundation= names run.")
    ] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Run a recipe: print ours beside the paper's, with intervals, and which orderings hold.

    Finished stages are kept in the folder and shared between recipes; a command that was cut off goes on when
    run again.
    """
    from heirloom.cli.output import print_table
    from heirloom.cli.progress import note, stage_progress
    from heirloom.cli.voice import voice
    from heirloom.runs import refused_without_a_trace
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import renamed, require
    from heirloom_recipes import shards
    from heirloom_recipes.catalogue import OutOfTimeError, recipe_of

    chosen = recipe_of(recipe)
    require(scale in chosen.scales, "scale", f"one of {', '.join(chosen.scales)}", scale)
    require(method in (None, "supervised", "contrastive"), "--method", "supervised or contrastive", method)
    require(minutes is None or minutes > 0, "minutes", "above 0", minutes)
    for source in data or []:
        require("=" in source, "--data", "NAME=SOURCE, e.g. cifar10=../shared/data/cifar10", source)
    device = str(torch_device(device))
    require(width is None or width >= 1, "width", "at least 1", width)
    require(seeds is None or seeds >= 2, "seeds", "at least 2", seeds)
    own = {"method": method, "width": width, "seeds": seeds, "only": only or None}
    own["trust_remote_code"] = trust_remote_code or None
    for option, value in own.items():
        require(value is None or option in chosen.options, option, f"left out for {recipe}", value)
    paper, _, name = recipe.partition("/")
    out = out or Path(f"runs/{paper}-{scale}")
    given: dict[str, Any] = {
        "sources": dict(source.split("=", 1) for source in data or []),
        "seed": seed,
        "device": device,
        "minutes": minutes,
        **{option: value for option, value in own.items() if option in chosen.options and value is not None},
    }
    require(chosen.reads_images or not data, "data", f"left out for {recipe}", ", ".join(data or ()))
    share = None if shard is None else shards.Shard.parse(shard)
    for option, typed in (("shard", shard), ("merge", merge or None)):
        require(typed is None or chosen.shards, option, f"left out for {recipe}", typed)
    require(not (share and merge), "merge", "given without shard", shard)
    if merge:
        shards.merge(out, recipe)
    try:
        with (
            refused_without_a_trace(out),
            stage_progress() as progress,
            shards.working_on(share),
            renamed(resume="out"),
        ):
            if share:
                shards.begin(share, out)
            summary = chosen.make(scale, share.folder(out) if share else out, progress=progress, **given)
    except shards.ShardDoneError:
        assert share is not None
        shards.finish(share, out, recipe)
        said = f"shard {shard} is done; when all are: the same command with --merge in place of --shard."
        note(f"heirloom: {said}")
        voice().document = {"finished": False, "said": said}
        return
    except OutOfTimeError:
        said = f"{minutes:g} minutes are over: run the same command again to go on."
        print(said)
        voice().document = {"finished": False, "said": said}
        raise typer.Exit(3) from None
    for table in chosen.printed(summary):
        print_table(table.caption, table.columns, table.rows)
    if missing := summary.details.get("not covered"):
        print("Not covered at this scale: " + "; ".join(missing) + ".")
    options.files_written(summary, out / (name if seeds is None else f"{name}-{seeds}-seeds"))
