"""Docs hold only figures that recorded runs printed, and every link leads somewhere."""

import json
import re
import shlex
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from heirloom.cli import app
from heirloom.defence.remarks import unpacked
from heirloom.defence.traits import UNTRAINED, traits
from heirloom.objectives.defences import DEFENCES
from heirloom.results.statistics import paired_difference
from heirloom_recipes.results_page import ROOT, results_page
from heirloom_recipes.sparse_coding.intervals import interval_of

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_results_page_is_made_from_the_recorded_runs() -> None:
    assert (ROOT / "docs" / "results.md").read_text() == results_page(ROOT / "results")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_figures_with_intervals_are_those_of_a_record() -> None:
    """Every ``value [low, high]`` of README and docs stands in some record, at the digits that are shown; paragraphs
    that call themselves trials, and the lab notes, have no record."""
    found: list[list[float]] = []
    texts = ""
    for path in (ROOT / "results").rglob("*.json"):
        texts += path.read_text()
        record = json.loads(path.read_text())
        _intervals(record, found)
        found += _paired(record.get("details", {}).get("defences", []))
    known = np.array(found)
    known = np.concatenate([known, 100 * known, -known[:, [0, 2, 1]], -100 * known[:, [0, 2, 1]]])
    wrong, seen = [], 0
    for page in PAGES:
        if "lab-notes" in page.parts or page.name in ("results.md", "remedy.md"):
            continue
        for words in re.split(r"\n\s*\n", page.read_text()):
            shown = [] if re.search("trial", words, re.IGNORECASE) else list(re.finditer(INTERVAL, words))
            seen += len(shown)
            for figure in shown:
                values = np.array([float(text) for text in figure.groups()])
                tolerance = [0.56 * 10.0 ** -len(text.partition(".")[2]) for text in figure.groups()]
                if not (np.abs(known - values) <= tolerance).all(1).any() and figure[0] not in texts:
                    wrong.append(f"{page.name}: {figure[0]}")
    assert seen > 300
    assert wrong == []


def test_the_table_of_methods_says_what_their_files_say() -> None:
    page = (ROOT / "docs" / "what-a-preprocessor-can-give.md").read_text()
    rows = {row[0]: [cell.strip() for cell in row] for row in TABLE_ROW.findall(page)}
    for method in (*DEFENCES, *(name for name in UNTRAINED if name != "identity")):
        told = traits(method)
        assert told is not None
        reads, _, *others = rows[method][1:]
        assert (reads, *others) == (told[0].partition("; no labels")[0], *told[1:]), method


TABLE_ROW = re.compile(r"^\| `([\w-]+)` " + 5 * r"\|([^|\n]*)" + r"\|$", re.MULTILINE)
INTERVAL = r"(?<![\d.])([+-]?\d+(?:\.\d+)?)(?: points| %)? \[([+-]?\d+(?:\.\d+)?), ([+-]?\d+(?:\.\d+)?)\]"


def _paired(defences: list[dict[str, Any]]) -> list[list[float]]:
    """Paired differences of a record's defences on the same images, worst case: its verdicts say them."""
    worst = [list(unpacked(each["right"]).values())[-1] for each in defences if "right" in each]
    pairs = [paired_difference(a, b) for a, b in permutations(worst, 2) if a.shape == b.shape]
    return [[each.value, each.low, each.high] for each in pairs]


def _intervals(value: Any, found: list[list[float]]) -> None:
    if isinstance(value, dict):
        triple = [value.get(key) for key in ("value", "low", "high")]
        if all(isinstance(number, int | float) for number in triple):
            found.append(triple)  # type: ignore[arg-type]
        elif set(value) == {"value", "sd", "n"} and value["n"] > 1:  # a mean over repeats has Student's
            ends = interval_of(value)
            found.append([ends["value"], ends["low"], ends["high"]])
        for inner in value.values():
            _intervals(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _intervals(inner, found)


def test_every_command_that_is_shown_is_one() -> None:
    """The parser takes every ``heirloom ...`` of a code block: no option that was renamed or left out."""
    root: Any = typer.main.get_command(app)
    top, shown = root.make_context("heirloom", [], resilient_parsing=True), 0
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in re.findall(r"^.*?(?<![\w/])heirloom\)?\"? (?!\()(.*)", block, re.MULTILINE):
                words, command, shown = shlex.split(line, comments=True), root, shown + 1
                while words and words[0] in getattr(command, "commands", {}):
                    command = command.commands[words.pop(0)]
                given = command.make_context(command.name, words, parent=top).params
                assert given.get("out", True) or not given.get("model"), (
                    line
                )  # evaluate and certify ask for it
    assert shown > 40


def test_every_page_stands_in_the_site_s_navigation() -> None:
    shown = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f" {page.name}\n" not in shown] == []


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
