"""``heirloom report``: draw a page again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli.voice import voice


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with the summary.json of a command.", show_default=False),
    ],
) -> None:
    """Draw FOLDER/report.html again from FOLDER/summary.json."""
    from heirloom.report.pages import draw
    from heirloom.results.schema import Summary

    page = draw(Summary.read(folder / "summary.json"), folder)
    voice().document = {"files": [str(page)]}
    print(page)
