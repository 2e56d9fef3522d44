"""``heirloom leaderboard``: one page from many results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli import options


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Folders with a summary.json of evaluate or defend.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")],
    robustbench: Annotated[
        Path | None,
        typer.Option(help="JSON with link, name, authors...: writes OUT/robustbench.json of the one FOLDER."),
    ] = None,
) -> None:
    """Show many results on one page, best worst case first, with intervals, audit marks and cost."""
    from dataclasses import asdict

    from heirloom.cli.output import print_table
    from heirloom.evaluation.leaderboard import model_info, read_entries
    from heirloom.objectives.defences import caveats_of
    from heirloom.report.pages import draw
    from heirloom.results.provenance import Stopwatch
    from heirloom.results.schema import Summary
    from heirloom.runtime.errors import require
    from heirloom.runtime.files import read_json, write_json

    stopwatch, earlier = Stopwatch(), out / "summary.json"
    if earlier.exists():
        kind = Summary.read(earlier).kind
        require(
            kind == "leaderboard",
            "out",
            "a new folder or an earlier leaderboard's",
            f"that of a result ({kind})",
        )
    if robustbench is not None:
        require(len(folders) == 1, "folders", "one, with --robustbench", len(folders))
        given = read_json(robustbench)
        require(isinstance(given, dict), "robustbench", "a JSON object", type(given).__name__)
        info = model_info(folders[0], given)
    entries = read_entries(folders)
    summary = stopwatch.summary("leaderboard", [asdict(entry) for entry in entries], seed=0)
    summary.write(out / "summary.json")
    draw(summary, out)
    rows = [[e.name, str(e.worst), e.by, str(e.clean), e.audit, e.group] for e in entries]
    names = ["model", "worst case", "by", "clean", "audit", "threat, images"]
    print_table("Worst case in % [95 % interval]", names, rows)
    for told in caveats_of(summary.rows):
        print(told)
    more = [out / "robustbench.json"] if robustbench is not None else []
    if robustbench is not None:
        write_json(out / "robustbench.json", info)
    options.files_written(summary, out, *more)
