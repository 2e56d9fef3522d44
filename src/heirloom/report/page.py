"""A self-contained page: sections of texts, tables, figures and images, then where the numbers come from."""

from __future__ import annotations

import re
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
    """A heading and what stands under it; ``folded``: only the heading is seen until it is opened."""

    title: str
    parts: Sequence[Part] = field(default_factory=list)
    folded: bool = False


def page(
    title: str, lead: str, sections: Sequence[Section], summary: Summary, *, warnings: Sequence[str] = ()
) -> str:
    """The whole page as HTML: ``lead`` says the main finding in a sentence or two, ``warnings`` what limits it."""
    settings = {name: plainly(value) for name, value in summary.settings.items() if value is not None}
    return _template().render(
        title=title, lead=lead, sections=sections, summary=summary, settings=settings, warnings=warnings
    )


def plainly(value: Any) -> str:
    """A setting as a reader writes it: ``yes``, ``0.9, 0.95``, ``steps 10, random start no``, never a Python repr."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return (
            ", ".join(f"{str(name).replace('_', ' ')} {plainly(item)}" for name, item in value.items())
            or "none"
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plainly, value)) or "none"
    return str(value)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True)
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template("page.html")


def unbroken(cell: Any) -> str:
    """A cell whose intervals stay on one line: a narrow screen breaks before ``[76.9, 89.9]``, not inside."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\u00a0"), str(cell))
