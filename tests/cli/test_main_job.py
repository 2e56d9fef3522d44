"""The commands of the main job, as a user runs them."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from heirloom import Summary
from heirloom.cli import app, common
from heirloom.threat import Threat


def test_help_is_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "heirloom", "--help"], capture_output=True, text=True, check=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
    assert seconds < 0.5
    assert "defend" in done.stdout


def test_defend_predict_report(foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [
        "defend",
        "--model",
        str(foundation),
        "--data",
        "digits",
        "--eps",
        "0.1",
        "--epochs",
        "2",
        "--limit",
        "200",
        "--limit-test",
        "30",
        "--attacks",
        "fgsm",
        "--head-epochs",
        "3",
        "--out",
        str(out),
    ]
    assert common.run(app, words) == 0
    printed = capsys.readouterr().out
    assert "identity" in printed
    assert "cropd" in printed
    summary = Summary.read(out / "summary.json")
    assert summary.threat == Threat("Linf", 0.1)
    Image.new("L", (20, 20), 90).save(tmp_path / "a.png")
    assert common.run(app, ["predict", str(out), str(tmp_path / "a.png"), "--top", "2"]) == 0
    name, *told = capsys.readouterr().out.strip().split("\t")
    assert name.endswith("a.png")
    assert len(told) == 2
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert common.run(app, ["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == page
    # again, with --resume: at once, from what is saved
    assert common.run(app, [*words, "--resume"]) == 0
    assert Summary.read(out / "summary.json").rows == summary.rows
