"""Wrong inputs: one sentence that names the argument, exit status 2, nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heirloom.cli import app, common
from heirloom.results.schema import Summary

Arguments = Callable[[Path, Path], list[str]]


def _defend(*changes: str, model: str | None = None, data: str = "digits") -> Arguments:
    def arguments(folder: Path, foundation: Path) -> list[str]:
        chosen = str(foundation) if model is None else model
        return [
            "defend",
            "--model",
            chosen,
            "--data",
            data.replace("FOLDER", str(folder)),
            "--epochs",
            "1",
            "--limit",
            "40",
            "--limit-test",
            "10",
            "--out",
            str(folder / "out"),
            *changes,
        ]

    return arguments


def _with(*words: str) -> Arguments:
    return lambda folder, foundation: [w.replace("FOLDER", str(folder)) for w in words]


# (what was typed, the option that nothing in the run reads)
IDLE = [
    *((f"--method jpeg --compare noise --{option}", option) for option in (
        "weight 1", "sigma 0.1", "attack-steps 2", "temperature 1", "vae x", "student resnet18", "student-width 8",
        "delay 0.1", "student-activation relu", "targets features", "as preprocessor", "thumbnail 2", "fidelity 1",
        "prototypes 3",
    )),
    *((f"--method median --compare identity --{option}", option) for option in (
        "radius 1", "architecture mlp", "minutes 1", "steps 2", "batch-size 8", "learning-rate 1e-3",
        "mixed-precision bf16", "checkpoint-seconds 3", "unlabelled digits", "augment",
    )),
    *((f"--method distil --{option}", option) for option in (
        "weight 1", "temperature 1", "architecture mlp", "augment", "compare noise --sigma 1",
    )),
    *((f"--method distil --as encoder --{option}", option) for option in ("thumbnail 2", "fidelity 1")),
    *((f"--method {method} --compare noise --augment", "augment") for method in ("arae", "distil")),
    ("--method auto --weight 3", "weight"),
    ("--method distil --student resnet18 --student-width 8", "student-width"),
    ("--method cropd --minutes 1 --steps 2", "minutes"),
    ("--method cropd --steps 2", "epochs"),  # the line below gives --epochs
    ("--method cropd --minutes 1", "epochs"),
    ("--method vanilla --radius 1", "radius"),
    ("--method noise --attack-steps 2", "attack-steps"),
]  # fmt: skip
COUNTS = [
    ("cropd", "2,3", "one number"),
    ("distil", "2", "two numbers"),
    ("distil --as encoder", "2,3", "one number"),
]


def _tried(words: str, foundation: Path, out: Path, *more: str) -> int:
    line = ["defend", "--model", str(foundation), "--data", "digits", "--limit", "40", "--limit-test", "10"]
    return common.run(app, [*line, "--out", str(out), *more, "--method", *words.split()[1:]])


@pytest.mark.parametrize(("words", "option"), IDLE, ids=[words for words, _ in IDLE])
def test_an_option_that_nothing_in_the_run_reads_is_refused(
    words: str, option: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = option.split()[-2 if "--" in option else 0].lstrip("-")
    epochs = ["--epochs", "1"] if named == "epochs" else []
    assert _tried(words, foundation, tmp_path / "out", *epochs) == 2
    assert f"--{named} must be left out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "steps", "said"), COUNTS)
def test_steps_are_as_many_numbers_as_there_are_phases(
    method: str, steps: str, said: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tried(f"--method {method} --steps {steps}", foundation, tmp_path / "out") == 2
    assert f"--steps must be {said}" in capsys.readouterr().err


ALONE = [
    *(
        (f"cropd --architecture {name}", "architecture")
        for name in ("jpeg", "median", "vae", "student-painter")
    ),
    ("distil --steps 1,1 --batch-size 1", "batch-size"),
    ("distil --as encoder --steps 1 --batch-size 1", "batch-size"),
    ("cropd --steps 1 --validation 0.01", "validation"),
    ("distil --steps 1,1 --prototypes 5000", "prototypes"),
]


@pytest.mark.parametrize(("words", "option"), ALONE)
def test_what_cannot_be_trained_is_refused_by_its_name(
    words: str, option: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tried(f"--method {words}", foundation, tmp_path / "out") == 2
    assert f"--{option} must be " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["jpeg", "cropd", "distil"])
def test_images_that_are_not_square_are_told_by_the_data(
    method: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = np.zeros((12, 6, 8), dtype=np.uint8), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    line = ["defend", "--model", str(foundation), "--data", str(tmp_path / "a.npz"), "--method", method]
    assert common.run(app, [*line, "--validation", "0.5", "--out", str(tmp_path / "out")]) == 2
    assert "--data must be of square images for a preprocessor" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["jpeg --compare=", "cropd --compare vanilla", "identity", "noise --compare noise"]
)
def test_strict_is_refused_where_nothing_could_be_judged(
    words: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tried(f"--method {words} --strict", foundation, tmp_path / "out") == 2
    assert "--strict must be left out where nothing is compared" in capsys.readouterr().err


CASES: list[tuple[str, Arguments, str]] = [
    ("unknown command", _with("defnd"), "No such command 'defnd'"),
    ("unknown option", _defend("--lambda", "3"), "No such option"),
    ("missing option", _with("defend", "--data", "digits"), "Missing option '--model'"),
    ("not a number", _defend("--epochs", "many"), "valid integer"),
    ("eps zero", _defend("--eps", "0"), "--eps must be a number above 0"),
    ("eps negative", _defend("--eps", "-8/255"), "--eps must be a number above 0"),
    ("eps words", _defend("--eps", "small"), "--eps must be a number above 0"),
    ("eps over zero", _defend("--eps", "8/0"), "--eps must be a number above 0"),
    ("norm", _defend("--norm", "L7"), "--norm must be one of Linf, L2, L1"),
    ("method", _defend("--method", "magic"), "--method must be one of recommended, auto, identity"),
    ("compare", _defend("--compare", "identity,magic"), "--compare must be among identity, vae, jpeg"),
    ("weight", _defend("--weight", "-1"), "--weight must be at least 0"),
    ("temperature", _defend("--temperature", "0"), "--temperature must be above 0"),
    ("architecture", _defend("--architecture", "unet"), "--architecture must be one of mlp"),
    ("architecture size", _defend("--architecture", "vit-small32"), "one that fits images of 8 pixels"),
    ("epochs", _defend("--epochs", "0"), "--epochs must be at least 1"),
    ("head epochs", _defend("--head-epochs", "0"), "--head-epochs must be at least 1"),
    (
        "head weight decay",
        _defend("--head-weight-decay", "101"),
        "--head-weight-decay must be between 0 and 100",
    ),
    ("batch size", _defend("--batch-size", "0"), "--batch-size must be at least 1"),
    (
        "batch of one",
        _defend("--method", "cropd", "--batch-size", "1", "--compare", ""),
        "at least 2 for a contrastive loss",
    ),
    ("learning rate", _defend("--learning-rate", "-1"), "--learning-rate must be above 0"),
    ("a limit of nothing", _defend("--limit-unlabelled", "5"), "--limit-unlabelled must be left out without"),
    ("nowhere", _defend("--unlabelled", "./no/such"), "--unlabelled must be an existing folder"),
    ("validation", _defend("--validation", "1.5"), "--validation must be a share between 0 and 1"),
    (
        "precision",
        _defend("--mixed-precision", "int8"),
        "--mixed-precision must be one of no, tf32, fp16, bf16, got int8",
    ),
    ("device", _defend("--device", "cuda:99"), "--device must be one of auto, cpu"),
    ("device words", _defend("--device", "gpu please"), "--device must be one of auto, cpu"),
    ("attack", _defend("--attacks", "pgd-ten"), "--attacks must be"),
    ("limit", _defend("--limit", "0"), "--limit must be at least 1"),
    ("pooling", _defend("--pooling", "max"), "--pooling must be one of auto, cls, mean, pooler"),
    ("pooling for the model", _defend("--pooling", "cls"), "--pooling must be mean or pooler"),
    ("normalisation", _defend("--normalisation", "zebra"), "--normalisation must be one of auto, none"),
    ("model missing", _defend(model="./no-model"), "--model must be a hub id within reach"),
    ("factory missing", _defend(model="no.module:build"), "importable package.module:factory"),
    ("model corrupt", _defend(model="CORRUPT"), "could not be loaded"),
    ("data missing", _defend(data="./no-data"), "--data must be an existing folder"),
    ("data empty", _defend(data="FOLDER/empty"), "has none"),
    ("data corrupt", _defend(data="FOLDER/bad.npz"), "readable .npz file"),
    ("pixels out of range", _defend(data="FOLDER/range.npz"), "pixels in [0, 1]"),
    ("pixels not a number", _defend(data="FOLDER/nan.npz"), "NaN"),
    ("labels negative", _defend(data="FOLDER/labels.npz"), "class indices from 0"),
    ("image corrupt", _defend(data="FOLDER/classes"), "readable images"),
    ("predict nothing", _with("predict", "FOLDER/nowhere", "FOLDER/bad.npz"), "existing folder or a hub id"),
    ("predict foreign", _with("predict", "FOLDER/empty", "FOLDER/bad.npz"), "one without config.json"),
    ("report nothing", _with("report", "FOLDER/empty"), "must be a JSON file"),
    ("report foreign", _with("report", "FOLDER/foreign"), "must be a result summary"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("empty", "foreign", "classes/a", "classes/b", "corrupt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "foreign" / "summary.json").write_text('{"rows": 3}')
    (tmp_path / "bad.npz").write_bytes(b"zzz")
    labels = np.arange(40) % 4
    images = np.zeros((40, 1, 8, 8))
    np.savez(tmp_path / "range.npz", images=images + 200, labels=labels)
    np.savez(tmp_path / "nan.npz", images=images * np.nan, labels=labels)
    np.savez(tmp_path / "labels.npz", images=images, labels=labels - 1)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "classes" / name)
    (tmp_path / "classes" / "b" / "2.png").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize(("arguments", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    arguments: Arguments, said: str, folder: Path, foundation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments(folder, foundation)
    if "CORRUPT" in words:
        (folder / "corrupt" / "config.json").write_bytes((foundation / "config.json").read_bytes())
        (folder / "corrupt" / "model.safetensors").write_bytes(b"broken")
        words[words.index("CORRUPT")] = str(folder / "corrupt")
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert common.run(app, words) == 2
    out, error = capsys.readouterr()
    sentence = error.strip().splitlines()[-1]
    assert sentence.startswith("heirloom: ")
    assert said in sentence
    assert out == ""
    assert {path for path in folder.rglob("*") if path.is_file()} - before == set()


def test_there_are_enough_kinds() -> None:
    assert len({name for name, *_ in CASES}) >= 25


def test_a_full_disk_is_one_sentence(
    folder: Path, foundation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert common.run(app, _defend("--compare", "")(folder, foundation)) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not [path for path in (folder / "out").rglob("*") if path.is_file()]


def test_an_encoder_needs_no_method_on_the_line(foundation: Path, tmp_path: Path) -> None:
    """Nothing but distil makes one, whatever is recommended for a preprocessor on such images."""
    line = ["defend", "--model", str(foundation), "--data", "digits", "--limit", "60", "--limit-test", "10"]
    line += ["--as", "encoder", "--steps", "1", "--student-width", "4", "--head-epochs", "1"]
    line += ["--attacks", "fgsm", "--audit-examples", "0", "--no-curve", "--out", str(tmp_path / "out")]
    assert common.run(app, line) == 0
    summary = Summary.read(tmp_path / "out" / "summary.json")
    assert summary.rows[-1]["defence"] == "distil"
    assert "augmentation" in summary.settings


def test_settings_tell_of_no_training_where_there_was_none(foundation: Path, tmp_path: Path) -> None:
    line = ["defend", "--model", str(foundation), "--data", "digits", "--limit", "60", "--limit-test", "10"]
    line += ["--method", "jpeg", "--head-epochs", "1", "--attacks", "fgsm", "--audit-examples", "0"]
    assert common.run(app, [*line, "--no-curve", "--compare", "", "--out", str(tmp_path / "out")]) == 0
    told = Summary.read(tmp_path / "out" / "summary.json").settings
    assert not {"epochs", "batch_size", "learning_rate", "weight", "radius", "temperature"} & set(told)
    assert "head weight decay" in told


@pytest.mark.parametrize("recipe", ["table-2", "paintings"])
def test_a_recipe_that_was_refused_does_not_block_its_folder(
    recipe: str, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it where another recipe's work is there already."""
    out, given = tmp_path / "out", "vae=nothere" if recipe == "table-2" else f"defence={foundation}"
    line = ["reproduce", f"cropd/{recipe}", "--scale", "smoke", "--out", str(out), "--data", given]
    assert common.run(app, line) == 2
    assert not out.exists()
    (out / "another").mkdir(parents=True)
    (out / "another" / "summary.json").write_text("{}")
    assert common.run(app, line) == 2
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["summary.json"]
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_one_sentence(
    folder: Path, foundation: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heirloom.data.images.load_images", interrupted)
    assert common.run(app, _defend()(folder, foundation)) == 2
    assert "Interrupted" in capsys.readouterr().err
    assert not (folder / "out").exists()
