"""A self-contained page: sections of texts, tables, figures and images, then where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template, select_autoescape

from heirloom.results.schema import Summary


@dataclass(frozen=True)
class Text:
    """One paragraph of plain text."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table; every cell is shown as ``str(cell)``. The first column names the rows.

    ``prose``: cells hold words, to the left and wrapped, not figures.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    kind: str = "table"
    prose: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing as a data URI (see ``heirloom.report.figures.data_uri``); ``caption`` says what it shows."""

    caption: str
    uri: str
    kind: str = "figure"


@dataclass(frozen=True)
class SideBySide:
    """Drawings in one row, one above the other where the screen is too narrow for that."""

    figures: Sequence[Figure]
    kind: str = "side-by-side"


@dataclass(frozen=True)
class Images:
    """A grid of small images (data URIs), a row each with its label, and a heading for each column."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]  # (label, [(uri, note), ...]); a note "!..." is red
    kind: str = "images"


Part = Text | Table | Figure | SideBySide | Images


@dataclass(frozen=True)
class Section:
    title: str
    parts: Sequence[Part] = field(default_factory=list)


def page(title: str, lead: str, sections: Sequence[Section], summary: Summary) -> str:
    """The whole page as HTML: ``lead`` says the main finding in a sentence or two."""
    settings = {name: value for name, value in summary.settings.items() if value is not None}
    return _template().render(title=title, lead=lead, sections=sections, summary=summary, settings=settings)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True)
    )
    return environment.get_template("page.html")
