"""Recorded results as pages: each ``results/**/*.json`` drawn by the page of its kind; a gallery of their pictures."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from heirloom.report.pages import PAGES, draw
from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError

PICTURES_A_RECORD = 2
MARKS = {"image/png": ".png", "image/svg+xml": ".svg"}


def write_records(results: Path, pages: Path, most: int | None = None) -> None:
    """``pages/records/NAME/report.html`` of every record, the list ``records.md``, and ``gallery.md``.

    ``most``: draw so many, evenly chosen, where time is short; the list has all.
    """
    known = [
        (path, summary) for path in sorted(results.rglob("*.json")) if (summary := _read(path)) is not None
    ]
    chosen = known if most is None else known[:: max(1, len(known) // most)][:most]
    lines = [
        "# Records",
        "",
        "Every figure in these docs stands in one of these files, with its command, seed, commit,",
    ]
    lines += [
        "device and seconds. The pages are drawn from the files alone. All as tables: [results](results.md).",
        "",
    ]
    lines += ["| record | kind | page |", "|---|---|---|"]
    gallery = ["# Gallery", "", "Pictures as the commands drew them; each leads to its record's page.", ""]
    gallery += _own_pictures(pages)
    for path, summary in known:
        name = path.relative_to(results).with_suffix("").as_posix().removesuffix("/summary")
        drawn = (path, summary) in chosen
        link = f"[page](records/{name}/report.html)" if drawn else ""
        lines.append(
            f"| [{name}](../results/{path.relative_to(results).as_posix()}) | {summary.kind} | {link} |"
        )
        if drawn:
            draw(summary, pages / "records" / name)
            gallery += _pictures(pages, name)
    (pages / "records.md").write_text("\n".join(lines) + "\n")
    (pages / "gallery.md").write_text("\n".join(gallery) + "\n")


def _read(path: Path) -> Summary | None:
    try:
        summary = Summary.read(path)
    except InputError:
        return None
    return summary if summary.kind in PAGES else None


def _own_pictures(pages: Path) -> list[str]:
    """What lies in docs/pictures, by its name."""
    found = sorted((pages / "pictures").glob("*.png"))
    return [f"![{path.stem.replace('-', ' ')}](pictures/{path.name})\n" for path in found]


def _pictures(pages: Path, name: str) -> list[str]:
    """The first figures of a record's page as files, with their captions."""
    page = (pages / "records" / name / "report.html").read_text()
    lines: list[str] = []
    for number, found in enumerate(
        re.finditer(r'<figure><img[^>]*? src="data:([^;]+);base64,([^"]+)" alt="([^"]*)"', page)
    ):
        if number >= PICTURES_A_RECORD or found[1] not in MARKS:
            break
        file = pages / "records" / name / f"figure-{number + 1}{MARKS[found[1]]}"
        file.write_bytes(base64.b64decode(found[2]))
        caption = html.unescape(found[3]).replace("[", "(").replace("]", ")")
        place = f"records/{name}"
        lines += [
            f"## {name}, figure {number + 1}",
            "",
            f"[![{caption}]({place}/{file.name})]({place}/report.html)",
        ]
        lines += ["", caption, ""]
    return lines
