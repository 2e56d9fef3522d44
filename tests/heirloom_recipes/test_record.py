"""A kept run has every figure and no image."""

import subprocess
import sys
from pathlib import Path

import pytest

from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom_recipes.record import record


def test_figures_stay_and_images_go(tmp_path: Path) -> None:
    details = {
        "defences": [
            {"defence": "cropd", "examples": [{"clean": "data:image/png;base64,AAAA"}], "parameters": 3}
        ]
    }
    made = Stopwatch("heirloom demo").summary(
        "defence", [{"defence": "cropd", "clean": 0.5}], seed=0, details=details
    )
    made.write(tmp_path / "run" / "summary.json")
    record(tmp_path / "run", tmp_path / "kept.json")
    kept = Summary.read(tmp_path / "kept.json")
    assert kept.rows == made.rows
    assert kept.details == {"defences": [{"defence": "cropd", "parameters": 3}]}
    assert "base64" not in (tmp_path / "kept.json").read_text()


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
