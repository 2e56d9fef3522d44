"""Names picked on the command line: one rule for three options, and what recorded commands picked."""

import json
import shlex
from pathlib import Path

import pytest

from heirloom.runtime.errors import InputError
from heirloom_recipes.sparse_coding.cases import CASES
from heirloom_recipes.sparse_coding.picked import picked
from heirloom_recipes.sparse_coding.readings import MOVED, OVER, SEEN, SEEN_EXACT, VARIANTS

RECORDED = Path(__file__).parents[2] / "results" / "sparse-coding"
CHOICES = {  # no recorded command picks statements
    "readings": ("variant", (*VARIANTS, *MOVED, SEEN, SEEN_EXACT, OVER)),
    "cases": ("case", tuple(case.name for case in CASES)),
}
NAMES = ("square, gate", "square, gate, Linf", "absolute, gate", "eps + 2 %")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", NAMES),
        ("gate", NAMES[:3]),
        ("GATE, l", NAMES[1:2]),
        ("square, gate", NAMES[:1]),  # a whole name is that one alone
        ("Square, Gate ; 2 %", (NAMES[0], NAMES[3])),
        ("eps;square", (*NAMES[:2], NAMES[3])),
        ("+ 2", NAMES[3:]),
    ],
)
def test_a_part_is_a_whole_name_or_begins_words(asked: str, found: tuple[str, ...]) -> None:
    assert picked(NAMES, asked, "cases") == list(found)


@pytest.mark.parametrize("asked", ["inf", "ate", "gate;wide", "gate;", ";", " ", "g.te"])
def test_a_part_that_means_nothing_is_refused(asked: str) -> None:
    with pytest.raises(InputError, match=r"cases must be parts of these names, .*eps \+ 2 %, got ") as told:
        picked(NAMES, asked, "cases")
    assert "gate;" not in str(told.value).rpartition("got ")[2]  # the wrong part alone


@pytest.mark.parametrize("option", CHOICES)
def test_recorded_commands_pick_what_they_measured(option: str) -> None:
    """Figure 4's rows without a choice are the fitted ones; a choice adds the readings that it means."""
    column, names = CHOICES[option]
    seen = 0
    for path in RECORDED.glob("*.json"):
        record = json.loads(path.read_text())
        words = shlex.split(record["command"])
        if f"--{option}" in words:
            seen += 1
            measured = {row[column] for row in record["rows"]} - {"fitted"}
            assert set(picked(names, words[words.index(f"--{option}") + 1], option)) == measured, path
    assert seen >= {"readings": 4, "cases": 10}[option]
