"""``benchmarks/gpu.py`` runs to its end on a CPU at smoke size, and does nothing twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from heirloom.runtime.files import read_json

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_kind_of_step_runs_on_a_cpu_and_is_not_repeated(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", "--minutes", "60"]
    command += ["--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    rows = read_json(tmp_path / "out" / "gpu.json")
    assert done.returncode == 0, rows
    assert [row["name"] for row in rows] == [
        "tests",
        "rates",
        "foundation",
        "distil",
        "training",
        "recipe inheritance/figure-1",
    ]
    assert all(row["status"] in (0, 5) for row in rows)
    rates = read_json(tmp_path / "out" / "rates" / "summary.json")["rows"]
    assert {row["what"]: row["stops"] for row in rates if "what" in row} == {
        "pgd-10": 0,
        "step of adversarial training": 0,
    }
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0
    assert again.stdout == ""
