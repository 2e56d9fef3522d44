"""``heirloom report``: draw the page again from the JSON alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with the summary.json of a command.", show_default=False),
    ],
) -> None:
    """Draw FOLDER/report.html again from FOLDER/summary.json."""
    from heirloom.defence.page import defence_page
    from heirloom.evaluation.page import evaluation_page
    from heirloom.heads.page import probe_page
    from heirloom.inspection.page import inspect_page
    from heirloom.pretraining.page import pretrain_page
    from heirloom.results.schema import Summary
    from heirloom_recipes.patches import experiments as patches

    summary = Summary.read(folder / "summary.json")
    if patches.SECTIONS.keys() & summary.details.keys():
        patches.write(summary, folder)
        print(folder / "report.html")
        return
    alone = "evaluation" in summary.details and "defences" not in summary.details
    pages = {"pretrain": pretrain_page, "probe": probe_page, "inspect": inspect_page}
    draw = pages.get(summary.details.get("kind", ""), evaluation_page if alone else defence_page)
    draw(summary, folder / "report.html")
    print(folder / "report.html")
