"""A kept run has every figure and no image."""

import subprocess
import sys
from pathlib import Path

import pytest

from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError
from heirloom_recipes.record import ROOT, record


def test_figures_stay_and_images_go(tmp_path: Path) -> None:
    made = Summary.read(ROOT / "results/defend/digits-demo.json")
    made.details["defences"][0]["examples"] = [{"clean": "data:image/png;base64,AAAA"}]
    made.write(tmp_path / "run" / "summary.json")
    record(tmp_path / "run", tmp_path / "kept.json")
    kept = Summary.read(tmp_path / "kept.json")
    assert kept.rows == made.rows
    del made.details["defences"][0]["examples"]
    assert kept.details == made.details
    assert "base64" not in (tmp_path / "kept.json").read_text()


def test_what_cannot_be_drawn_is_not_kept(tmp_path: Path) -> None:
    made = Summary.read(ROOT / "results/defend/digits-demo.json")
    made.details["examples"] = {"defences": made.details.pop("defences")}
    made.write(tmp_path / "run" / "summary.json")
    with pytest.raises(InputError, match="details must be those of a defence"):
        record(tmp_path / "run", tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["-m", "asks"], "python -m asks --size 'two words'"), (["asks.py"], "asks.py --size 'two words'")],
)
def test_a_result_shows_the_command_that_made_it(tmp_path: Path, arguments: list[str], shown: str) -> None:
    (tmp_path / "asks.py").write_text(
        "from heirloom.results.provenance import shown_command\nprint(shown_command())\n"
    )
    done = subprocess.run(
        [sys.executable, *arguments, "--size", "two words"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == shown
