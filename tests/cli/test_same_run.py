"""Change what decides the numbers, resume, be refused by name: every command that measures, every such option."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from heirloom import InputError, Summary
from heirloom.cli import app, common
from heirloom.data.labelled import ImageSource
from heirloom.defence.demo import pretrain_foundation, run_demo
from heirloom.runs import Run

LINEAR = "tests.evaluation.subjects:linear"
DEFEND = ["--data", "digits", "--limit", "60", "--limit-test", "12", "--compare", ""]
DEFEND += ["--method", "stability", "--epochs", "1"]
DEFEND += ["--eps", "0.1", "--attacks", "fgsm", "--head-epochs", "1", "--audit-examples", "0"]
EVALUATE = ["--data", "digits", "--limit", "12", "--eps", "0.1", "--attacks", "fgsm", "--no-audit"]
PRETRAIN = [
    "--data",
    "digits",
    "--limit",
    "60",
    "--limit-test",
    "12",
    "--network",
    "resnet8",
    "--attacks",
    "fgsm",
]
PRETRAIN += ["--clean-epochs", "1", "--batch-size", "16", "--validation", "0.2"]
PROBE = ["--data", "digits", "--limit", "60", "--limit-test", "12", "--attacks", "fgsm", "--epochs", "1"]
PROBE += ["--validation", "0.2"]
CHANGES = {
    "defend": (
        ["--eps", "0.1234567"],
        ["--norm", "L2"],
        ["--seed", "1"],
        ["--attacks", "pgd-2"],
        ["--head-epochs", "2"],
        ["--head-weight-decay", "1"],
        ["--normalisation", "none"],
        ["--pooling", "mean"],
        ["--limit", "61"],
        ["--limit-test", "13"],
        ["--data", "OTHER"],
        ["--model", "OTHER"],
        ["--unlabelled", "digits"],
        ["--validation", "0.2"],
        ["--eval-batch-size", "5"],
        ["--compare", "vanilla"],
        ["--attack-dtype", "auto"],
        ["--weight", "3"],
        ["--epochs", "7"],
    ),
    "evaluate": (
        ["--eps", "0.1000001"],
        ["--norm", "L2"],
        ["--seed", "1"],
        ["--seeds", "2"],
        ["--attacks", "pgd-2"],
        ["--limit", "13"],
        ["--batch-size", "5"],
        ["--model", "heirloom.evaluation.broken:clean_net"],
        ["--dtype", "bfloat16"],
        ["--attack-dtype", "bfloat16"],
        ["--data", "OTHER"],
        ["--audit"],
    ),
    "pretrain": (
        ["--eps", "0.1000001"],
        ["--seed", "1"],
        ["--clean-epochs", "2"],
        ["--batch-size", "8"],
        ["--learning-rate", "0.01"],
        ["--attacks", "pgd-2"],
        ["--data", "OTHER"],
        ["--network", "resnet8-7x7"],
        ["--augmentation", "none"],
        ["--adversarial"],
        ["--validation", "0.3"],
        ["--attack-dtype", "bfloat16"],
    ),
    "probe": (
        ["--eps", "0.1000001"],
        ["--seed", "1"],
        ["--epochs", "2"],
        ["--attacks", "pgd-2"],
        ["--data", "OTHER"],
        ["--encoder", "OTHER"],
        ["--normalisation", "none"],
        ["--attack-dtype", "auto"],
        ["--adversarial"],
    ),
    "inspect": (["--seed", "1"], ["OTHER"]),
}


@pytest.fixture(scope="session")
def others(digits: ImageSource, foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Images of the same number and shape with other pixels; a foundation with other weights."""
    folder = tmp_path_factory.mktemp("others")
    pretrain_foundation(digits.train.limit(256), folder / "foundation", epochs=1, seed=3)
    rng = np.random.default_rng(0)
    np.savez(
        folder / "other.npz",
        x_train=rng.random((60, 1, 8, 8), dtype=np.float32),
        y_train=np.arange(60) % 10,
        x_test=rng.random((12, 1, 8, 8), dtype=np.float32),
        y_test=np.arange(12) % 10,
    )
    return {"data": str(folder / "other.npz"), "model": str(folder / "foundation")}


def _command(name: str, foundation: Path, out: Path) -> list[str]:
    return {
        "defend": ["defend", "--model", str(foundation), *DEFEND],
        "evaluate": ["evaluate", "--model", LINEAR, *EVALUATE],
        "pretrain": ["pretrain", *PRETRAIN],
        "probe": ["probe", "--encoder", str(foundation), *PROBE],
        "inspect": ["inspect", str(foundation)],
    }[name] + ["--out", str(out)]


@pytest.fixture(scope="session")
def finished(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each command, finished."""
    folder = tmp_path_factory.mktemp("finished")
    for name in CHANGES:
        assert common.run(app, _command(name, foundation, folder / name)) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "change"),
    [(name, change) for name, changes in CHANGES.items() for change in changes],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_changed_fact_is_refused(
    name: str,
    change: list[str],
    finished: Path,
    foundation: Path,
    others: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished / name, tmp_path / name)
    before = {path: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
    other = others["data" if "--data" in change else "model"]
    changed = [other if word == "OTHER" else word for word in change]
    command = _command(name, foundation, tmp_path / name)
    if name == "inspect" and change == ["OTHER"]:
        command[1], changed = other, []
    assert common.run(app, [*command, *changed, "--resume"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "--resume must be of the run in" in error
    assert "got another" in error
    after = {path: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_command_resumes_and_its_page_is_redrawn_to_the_same_bytes(
    name: str, finished: Path, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / name, tmp_path / name)
    assert common.run(app, _command(name, foundation, tmp_path / name)) == 2
    assert "--out must be a new folder unless resume is given" in " ".join(capsys.readouterr().err.split())
    assert common.run(app, [*_command(name, foundation, tmp_path / name), "--resume"]) == 0
    page = (tmp_path / name / "report.html").read_bytes()
    (tmp_path / name / "report.html").unlink()
    assert common.run(app, ["report", str(tmp_path / name)]) == 0
    assert (tmp_path / name / "report.html").read_bytes() == page


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_file_of_an_earlier_run_is_named_or_made_again(
    name: str, finished: Path, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, found = Summary.read(finished / name / "summary.json").rows, []
    kinds = {}  # one file of each kind is enough: what it is called, not which run or chunk of it
    for path in sorted((finished / name).rglob("*")):
        if path.suffix in (".json", ".safetensors") and "encoder" not in path.parts:
            kinds[path.parent.name.rstrip("0123456789-") if path.stem.isdecimal() else path.name] = path
    for path in kinds.values():
        for damage in (b"[]" if path.suffix == ".json" else path.read_bytes()[:-9],):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            shutil.copytree(finished / name, tmp_path / name)
            if path.parent.name != "stages" and path.name != "summary.json":  # else nobody would read it
                shutil.rmtree(tmp_path / name / "work" / "stages", ignore_errors=True)
                (tmp_path / name / "summary.json").unlink()
            place = tmp_path / name / path.relative_to(finished / name)
            place.write_bytes(damage)
            try:
                code: object = common.run(app, [*_command(name, foundation, tmp_path / name), "--resume"])
            except Exception as error:  # a traceback is what this test looks for
                code = repr(error)[:150]
            said = capsys.readouterr().err.strip().splitlines()[-1:]
            if code == 0 and Summary.read(tmp_path / name / "summary.json").rows == rows:
                continue
            if code != 2 or path.name not in said[0]:
                found.append(f"{path.relative_to(finished)} {damage[:7]!r}: {code} {said}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [*sorted(set(CHANGES) - {"inspect"}), "certify", "features build"])
def test_the_time_that_was_spent_is_noted_within_a_stage(
    name: str, foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is killed in the middle of its training has spent the time all the same."""
    noted: list[float] = []
    monkeypatch.setattr("heirloom.runs.KEPT_EVERY", 0.0)
    monkeypatch.setattr(Run, "_mark", lambda run: noted.append(run.seconds))
    few = ["--data", "digits", "--limit", "4", "--out", str(tmp_path / "out")]
    features = ["features", "build", "--encoder", str(foundation), "--steps", "2", "--limit-test", "2"]
    more = {
        "certify": ["certify", "--model", LINEAR, *few, "--sigma", "0.1", "--n", "10", "--n0", "2"],
        "features build": [*features, *few],
    }
    assert common.run(app, more[name] if name in more else _command(name, foundation, tmp_path / "out")) == 0
    stages = list((tmp_path / "out").rglob("work/stages/*.json"))
    assert len(noted) > len(stages)
    assert noted == sorted(noted)


def test_the_demo_of_another_seed_is_refused(tmp_path: Path, foundation: Path) -> None:
    shutil.copytree(foundation, tmp_path / "foundation")  # so that nothing is pre-trained here
    with pytest.raises(_StoppedError):
        run_demo(tmp_path, seed=0, progress=_stop_at_once)
    with pytest.raises(InputError, match="another seed"):
        run_demo(tmp_path, seed=5, progress=_stop_at_once)


class _StoppedError(Exception):
    pass


def _stop_at_once(stage: str, done: int, total: int, words: str) -> None:
    raise _StoppedError
