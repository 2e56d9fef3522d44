"""A kept run has every figure and no image."""

from pathlib import Path

from heirloom.results import Stopwatch, Summary
from heirloom_recipes.record import record


def test_figures_stay_and_images_go(tmp_path: Path) -> None:
    details = {
        "defences": [
            {"defence": "cropd", "examples": [{"clean": "data:image/png;base64,AAAA"}], "parameters": 3}
        ]
    }
    made = Stopwatch("heirloom demo").summary(
        seed=0, rows=[{"defence": "cropd", "clean": 0.5}], details=details
    )
    made.write(tmp_path / "run" / "summary.json")
    record(tmp_path / "run", tmp_path / "kept.json")
    kept = Summary.read(tmp_path / "kept.json")
    assert kept.rows == made.rows
    assert kept.details == {"defences": [{"defence": "cropd", "parameters": 3}]}
    assert "base64" not in (tmp_path / "kept.json").read_text()
