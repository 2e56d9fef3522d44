"""Docs hold only figures that recorded runs printed, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from heirloom_recipes.results_page import ROOT, results_page

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_results_page_is_made_from_the_recorded_runs() -> None:
    assert (ROOT / "docs" / "results.md").read_text() == results_page(ROOT / "results")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_every_page_can_be_found_from_the_index() -> None:
    found = {ROOT / "docs" / "index.md"}
    waiting = list(found)
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)", page.read_text()):
            other = (page.parent / target).resolve()
            if other.exists() and other not in found:
                found.add(other)
                waiting.append(other)
    assert set((ROOT / "docs").rglob("*.md")) <= found
