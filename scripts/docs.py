"""The docs site: ``python scripts/docs.py [--records N]`` makes ``build/site`` and fails on anything broken.

Written pages come from ``docs/``; the command line, the API and the recorded results are made from the program. A page,
an anchor or a picture that is not there ends it with status 1, and so does a font, script or picture from elsewhere.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # written in the top folder, shown on the site


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-notebook", action="store_true", help="leave the executed notebook's page empty")
    parser.add_argument("--records", type=int, default=None, help="draw the pages of so many records [all]")
    chosen = parser.parse_args(arguments)
    write_sources(chosen.records, notebook=not chosen.no_notebook)
    shutil.rmtree(SITE, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "-f",
        str(ROOT / "mkdocs.yml"),
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    wrong = broken(SITE)
    print(
        "\n".join(wrong)
        or f"{SITE.relative_to(ROOT)}: {len(list(SITE.rglob('*.html')))} pages, nothing broken"
    )
    return 1 if wrong else 0


def repository() -> str:
    """The project's address, from pyproject.toml, its one place."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"])


def write_sources(records: int | None = None, *, notebook: bool = True) -> None:
    """All Markdown of the site under ``build/docs``."""
    from notebook import run as run_notebook
    from site_pages import api, command_line
    from site_records import write_records

    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE)
    (SOURCE / "command-line.md").write_text(command_line())
    (SOURCE / "api.md").write_text(api())
    write_records(ROOT / "results", SOURCE, records)
    if notebook:
        run_notebook(SOURCE)
    else:
        (SOURCE / "notebook.md").write_text("# From a model and a folder\n\nNot executed in this build.\n")
    for name in TOP:
        shutil.copyfile(ROOT / name, SOURCE / name)
    for page in SOURCE.rglob("*.md"):
        home = ROOT if page.name in TOP else ROOT / "docs"
        page.write_text(outward(page.read_text(), home / page.relative_to(SOURCE)))


def outward(text: str, origin: Path) -> str:
    """``text`` of the page ``origin`` with links that leave docs/ leading to the repository."""

    def replaced(found: re.Match[str]) -> str:
        target, _, anchor = found[1].partition("#")
        if not target or "://" in target:
            return found[0]
        place = (origin.parent / target).resolve()
        known = [ROOT / "docs", *(ROOT / name for name in TOP)]
        inside = next((home for home in known if place.is_relative_to(home)), None)
        if inside is None and place.exists():
            return f"]({repository()}/blob/main/{place.relative_to(ROOT)})"
        if inside is not None and origin.is_relative_to(ROOT / "docs") and inside != ROOT / "docs":
            depth = len(origin.relative_to(ROOT / "docs").parents) - 1
            return f"]({'../' * depth}{place.name}{'#' + anchor if anchor else ''})"
        if inside is not None and origin.parent == ROOT:  # from the top folder into docs/
            return f"]({target.removeprefix('docs/')}{'#' + anchor if anchor else ''})"
        return found[0]

    return re.sub(r"\]\(([^)\s]+)\)", replaced, text)


class _Page(HTMLParser):
    """The ids of a page, what it leads to and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.leads: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given["href"])
        elif tag in ("img", "script", "source", "iframe") and "src" in given:
            self.loads.append(given["src"])


def broken(site: Path) -> list[str]:
    """Sentences on what leads nowhere or loads something from elsewhere, over all pages of ``site``."""
    pages = {path: _parsed(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":  # its addresses are absolute
            continue
        name = path.relative_to(site)
        for target in page.loads:
            if urlparse(target).scheme not in ("", "data") or target.startswith("//"):
                found.append(f"{name} loads {target[:80]} from elsewhere.")
        for target in [*page.leads, *page.loads]:
            found += [f"{name}: {told}" for told in _leads_nowhere(path, target, site, pages)]
    return found


def _leads_nowhere(path: Path, target: str, site: Path, pages: dict[Path, _Page]) -> list[str]:
    parts = urlparse(target)
    if parts.scheme or target.startswith("//"):
        return []
    place = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    place = place / "index.html" if place.is_dir() else place
    if not place.exists():
        return [f"{target} leads nowhere."]
    anchor = unquote(parts.fragment)
    if anchor and place in pages and anchor not in pages[place].ids and not anchor.startswith("__"):
        return [f"{target} names an anchor that {place.relative_to(site)} has not."]
    return []


def _parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


if __name__ == "__main__":
    sys.exit(main())
