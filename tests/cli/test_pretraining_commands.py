"""pretrain, probe, inspect and reproduce as a user runs them, on the embedded digits."""

import json
import re
from pathlib import Path

import pytest

from heirloom.cli import main

FAST = ["--data", "digits", "--limit", "200", "--limit-test", "60", "--validation", "0.2"]
PRETRAIN = [
    "pretrain",
    *FAST,
    "--network",
    "resnet8-7x7",
    "--attack-steps",
    "1",
    "--clean-epochs",
    "1",
    "--adversarial-epochs",
    "1",
    "--attacks",
    "pgd-2",
]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    assert run(*PRETRAIN, "--adversarial", "--out", str(folder / "adversarial")) == 0
    assert run(*PRETRAIN, "--method", "contrastive", "--out", str(folder / "contrastive")) == 0
    return folder


def test_pretrain_leaves_encoder_figures_and_page(encoders: Path) -> None:
    summary = json.loads((encoders / "adversarial" / "summary.json").read_text())
    (row,) = summary["rows"]
    assert (row["pretrain"], row["downstream"]) == ("adversarial supervised", "-")
    assert row["robust"] == row["pgd-2"]
    assert summary["settings"]["select_on_test"] is False
    page = (encoders / "adversarial" / "report.html").read_text()
    assert "Adversarial supervised pre-training of resnet8-7x7" in page
    assert len(re.findall(r"data:image/png", page)) > 20  # mosaic, strip, animation
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    contrastive = json.loads((encoders / "contrastive" / "summary.json").read_text())
    assert contrastive["rows"][0]["pretrain"] == "clean contrastive"
    assert "clean" not in contrastive["rows"][0]


def test_report_draws_the_page_again_from_the_json_alone(encoders: Path) -> None:
    page = encoders / "contrastive" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert run("report", str(page.parent)) == 0
    assert page.read_bytes() == before


def test_probe_measures_both_heads(
    encoders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        "probe",
        "--encoder",
        str(encoders / "adversarial" / "encoder"),
        *FAST,
        "--adversarial",
        "--epochs",
        "3",
        "--adversarial-epochs",
        "1",
        "--attack-steps",
        "1",
        "--attacks",
        "pgd-2,pgd-3",
        "--out",
        str(tmp_path),
    )
    assert code == 0
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert [row["downstream"] for row in rows] == ["clean", "adversarial"]
    assert all(row["robust"] == row["pgd-3"] for row in rows)
    assert (
        "PGD" in (tmp_path / "report.html").read_text() or "pgd-3" in (tmp_path / "report.html").read_text()
    )
    assert "Accuracy in % [95 % interval], Linf 8/255" in capsys.readouterr().out


def test_inspect_compares_two_encoders(encoders: Path, tmp_path: Path) -> None:
    names = [str(encoders / name / "encoder") for name in ("adversarial", "contrastive")]
    assert run("inspect", *names, "--out", str(tmp_path)) == 0
    page = (tmp_path / "report.html").read_text()
    (beside,) = re.findall(r'<div class="beside">(.*?)</div>', page, re.DOTALL)
    assert beside.count("<figure>") == 2  # the two encoders' filters in one row
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert [row["encoder"] for row in rows] == [*names, "second minus first"]
    for name in ("colour_count", "colour_rank", "energy_concentration", "spatial_concentration", "hoyer"):
        low, value, high = (rows[0][name][key] for key in ("low", "value", "high"))
        assert low <= value <= high
    assert "Evolution" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_reproduce_prints_ours_beside_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "inheritance/table-1", "--scale", "smoke", "--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "95.5" in out
    assert "adversarial supervised / clean > clean supervised / clean, robust" in out
    assert run("reproduce", "inheritance/filters", "--scale", "smoke", "--out", str(tmp_path)) == 0
    assert "adversarial minus clean" in capsys.readouterr().out
    for name in ("table-1", "filters"):
        page = (tmp_path / name / "report.html").read_bytes()
        assert run("report", str(tmp_path / name)) == 0
        assert (tmp_path / name / "report.html").read_bytes() == page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "inheritance/table-9"], "RECIPE must be one of cropd/table-1"),
        (["reproduce", "inheritance/table-1", "--scale", "huge"], "scale must be one of smoke"),
        (["reproduce", "inheritance/table-1", "--data", "x"], "data must be NAME=SOURCE"),
        (["reproduce", "inheritance/table-1", "--method", "x"], "method must be supervised or"),
        (["reproduce", "inheritance/table-1", "--minutes", "0"], "minutes must be above 0"),
        ([*PRETRAIN, "--out", "x", "--method", "byol"], "method must be one of"),
        ([*PRETRAIN, "--out", "x", "--network", "alexnet"], "network must be one of resnet18"),
        ([*PRETRAIN, "--out", "x", "--eps", "0"], "eps must be a number above 0"),
        ([*PRETRAIN, "--out", "x", "--augmentation", "mixup"], "augmentation must be one of"),
        (["probe", "--encoder", "nowhere", *FAST, "--out", "x"], "--encoder must be a hub id"),
        (["inspect", "a", "b", "c", "--out", "x"], "ENCODERS must be one or two"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
