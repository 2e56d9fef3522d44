"""Results on one page, and RobustBench's form only where a result may have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from heirloom import InputError, Threat
from heirloom.cli import app, common
from heirloom.evaluation.leaderboard import GIVEN, leaderboard_page, model_info, read_entries
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import DataUsed, Summary
from heirloom.results.statistics import interval


def share(right: int, n: int) -> dict[str, Any]:
    low, high = interval(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}


def write(
    folder: Path,
    robust: int,
    *,
    n: int = 10_000,
    eps: float = 8 / 255,
    failed: tuple[str, ...] = (),
    **more: Any,
) -> Path:
    details = {
        "evaluation": {"attack_seconds": 12.5},
        "audit": {"trusted": not failed, "failed": list(failed)},
    }
    row = {"model": folder.name, "clean": share(n // 2 + n // 4, n), "autoattack": share(robust, n)}
    summary = Stopwatch("test").summary(
        "evaluation", [row], seed=0, threat=Threat("Linf", eps), details={**details, **more},
        data=DataUsed(name="cifar10", train=0, test=n, digest="0123456789"),
    )  # fmt: skip
    summary.write(folder / "summary.json")
    return folder


def given(**changes: Any) -> dict[str, Any]:
    texts = {
        "link": "https://arxiv.org/abs/1",
        "name": "A",
        "authors": "B",
        "venue": "C",
        "architecture": "D",
    }
    return {
        **texts,
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "reported": "40.00",
    } | changes


def test_the_best_worst_case_stands_first_and_untrusted_ones_are_marked(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "low", 2000),
        write(tmp_path / "high", 6000, failed=("quantisation",)),
        write(tmp_path / "elsewhere", 9000, eps=4 / 255),
    ]
    entries = read_entries(folders)
    assert [entry.name for entry in entries if "8/255" in entry.group] == ["high", "low"]
    assert {entry.group for entry in entries} == {
        entry.group for entry in entries if "cifar10" in entry.group
    }
    assert len({entry.group for entry in entries}) == 2
    assert common.run(app, ["leaderboard", *map(str, folders), "--out", str(tmp_path / "board")]) == 0
    summary = Summary.read(tmp_path / "board" / "summary.json")
    shown = (tmp_path / "board" / "report.html").read_text()
    assert shown == leaderboard_page(summary)
    assert "NOT TO BE TRUSTED: quantisation" in shown
    assert summary.rows[-1]["seconds"] == 12.5


def test_a_random_model_is_listed_by_its_draws(tmp_path: Path) -> None:
    draws = {
        "draws": 20,
        "mean": share(3000, 10_000),
        "majority": share(3000, 10_000),
        "worst": share(1, 10_000),
    }
    (entry,) = read_entries(
        [write(tmp_path / "random", 1000, draws=draws, single_draw=["clean", "autoattack"])]
    )
    assert entry.worst.value == 0.3
    assert "20 draws" in entry.by
    (entry,) = read_entries([write(tmp_path / "undrawn", 1000, single_draw=["clean", "autoattack"])])
    assert "one draw" in entry.by


def test_robustbench_form_has_its_twelve_keys(tmp_path: Path) -> None:
    info = model_info(write(tmp_path / "a", 4321), given())
    assert len(info) == 12
    assert set(info) == {*GIVEN, "eps", "clean_acc", "autoattack_acc"}
    assert (info["eps"], info["clean_acc"], info["autoattack_acc"]) == ("8/255", "75.00", "43.21")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 1000}, "images must be 10000"),
        ({"eps": 4 / 255}, "threat must be one that RobustBench lists"),
        ({"failed": ("state",)}, "audit must be without a sign, got state"),
        ({"audit": None}, "audit must be without a sign, got none made"),
    ],
)
def test_robustbench_form_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    robust = changes.get("n", 10_000) // 2
    with pytest.raises(InputError, match=said):
        model_info(write(tmp_path / "a", robust, **changes), given())


def test_wrong_information_and_wrong_kinds_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "a", 4000)
    with pytest.raises(InputError, match="additional_data must be given as bool"):
        model_info(folder, given(additional_data="no"))
    with pytest.raises(InputError, match="model_info must be of the keys"):
        model_info(folder, given(more=1))
    with pytest.raises(InputError, match="number_forward_passes must be given as int"):
        model_info(folder, given(number_forward_passes=True))
    other = Summary.read(folder / "summary.json").model_copy(
        update={"data": DataUsed(name="uoft-cs/cifar100", train=0, test=1, digest="")}
    )
    other.write(tmp_path / "other" / "summary.json")
    with pytest.raises(InputError, match="dataset must be that of the evaluated images"):
        model_info(tmp_path / "other", given())
    before = (folder / "summary.json").read_bytes()
    assert common.run(app, ["leaderboard", str(folder), "--out", str(folder)]) == 2
    assert (folder / "summary.json").read_bytes() == before
    (tmp_path / "info.json").write_text(json.dumps(given()))
    arguments = [
        "leaderboard",
        str(folder),
        "--out",
        str(tmp_path / "board"),
        "--robustbench",
        str(tmp_path / "info.json"),
    ]
    assert common.run(app, arguments) == 0
    assert len(json.loads((tmp_path / "board" / "robustbench.json").read_text())) == 12
    assert common.run(app, ["leaderboard", str(tmp_path / "board"), "--out", str(tmp_path / "again")]) == 2
    assert "must be a result of kind evaluation or defence, got leaderboard" in capsys.readouterr().err
