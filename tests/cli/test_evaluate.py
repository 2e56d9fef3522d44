"""``heirloom evaluate``: its files, exit statuses, comparisons, and one sentence for each wrong input."""

from pathlib import Path

import pytest

from heirloom import Summary
from heirloom.cli import main
from heirloom.defence.saved import DefendedModel
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import build_preprocessor
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import DataUsed
from heirloom.threat import Threat

from ..evaluation.subjects import linear
from ..models.zoo import ZOO, Animal, build

LINEAR = "tests.evaluation.subjects:linear"
QUANTISED = "heirloom.evaluation.broken:pixel_quantiser"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    return int(ended.value.code or 0)


def options(out: Path, model: str = LINEAR, **changes: str) -> list[str]:
    chosen = {"model": model, "data": "digits", "eps": "0.06", "attacks": "pgd-5,strong", "limit": "80"}
    chosen |= {"out": str(out), "audit-examples": "32"} | {k.replace("_", "-"): v for k, v in changes.items()}
    return [part for name, value in chosen.items() for part in (f"--{name}", value)]


def test_files_rows_details_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options(tmp_path), "--strict", "--seeds", "2") == 0
    summary = Summary.read(tmp_path / "summary.json")
    (row,) = summary.rows
    assert list(row) == ["model", "clean", "pgd-5", "strong"]
    assert row["clean"]["value"] >= row["pgd-5"]["value"] >= row["strong"]["value"]
    details = summary.details
    assert details["audit"]["trusted"] is True
    assert {"check", "verdict", "cause", "remedy", "evidence"} == set(details["audit"]["findings"][0])
    assert details["evaluation"]["standing"]["clean"] == round(80 * row["clean"]["value"])
    assert details["evaluation"]["seeds"]["strong"]["n"] == 2
    html = (tmp_path / "report.html").read_text()
    assert "found no sign" in html
    assert "gradient-agreement" in html
    assert 'src="http' not in html
    assert "PGD-5" in capsys.readouterr().out.upper()


def test_strict_exits_1_when_the_audit_finds_a_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options(tmp_path, QUANTISED, eps="0.15", attacks="pgd-5")
    assert run(*arguments) == 0
    assert run(*arguments, "--strict", "--resume") == 1
    said = capsys.readouterr().out
    assert "AUDIT, quantisation" in said
    assert "Remedy" in said
    assert "signs that these figures are wrong (quantisation" in (tmp_path / "report.html").read_text()


def test_against_gives_paired_differences_on_the_same_images(tmp_path: Path) -> None:
    quick = {"attacks": "fgsm"}
    assert run(*options(tmp_path / "a", **quick), "--no-audit") == 0
    robust = "heirloom.evaluation.broken:clean_net"
    assert run(*options(tmp_path / "b", robust, **quick), "--no-audit", "--against", str(tmp_path / "a")) == 0
    first, second = (Summary.read(tmp_path / name / "summary.json") for name in "ab")
    found = second.details["evaluation"]["against"]["differences"]["fgsm"]
    assert found["value"] == pytest.approx(second.rows[0]["fgsm"]["value"] - first.rows[0]["fgsm"]["value"])
    assert found["low"] <= found["value"] <= found["high"]


def test_against_refuses_other_images_before_any_time_is_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options(tmp_path / "a", attacks="fgsm", limit="40"), "--no-audit") == 0
    assert run(*options(tmp_path / "b", attacks="fgsm"), "--against", str(tmp_path / "a")) == 2
    assert "--against must be an evaluation of the same images" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_report_draws_the_page_again(tmp_path: Path) -> None:
    assert run(*options(tmp_path, attacks="fgsm"), "--no-audit") == 0
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert (tmp_path / "report.html").read_bytes() == page


def test_resume_of_a_finished_run_measures_nothing_again(tmp_path: Path) -> None:
    arguments = [*options(tmp_path, attacks="pgd-5"), "--no-audit"]
    assert run(*arguments) == 0
    files = {
        file: file.stat().st_mtime_ns for file in (tmp_path / "work" / "verdicts").rglob("*.safetensors")
    }
    assert run(*arguments, "--resume") == 0
    assert files == {file: file.stat().st_mtime_ns for file in files}


def test_a_saved_defence_brings_its_own_threat_and_data(tmp_path: Path) -> None:
    encoder = load_encoder(EncoderSettings("tests.evaluation.subjects:features"))
    model = DefendedModel(
        build_preprocessor("mlp", (1, 8, 8)),
        encoder,
        linear().layer,
        image_shape=(1, 8, 8),
        classes=tuple("0123456789"),
        defence={"method": "cropd", "threat": {"norm": "Linf", "eps": 0.123456}},
    )
    model.save_pretrained(tmp_path)
    arguments = [str(tmp_path), "--trust-remote-code", "--limit", "40", "--attacks", "fgsm", "--no-audit"]
    assert run(*arguments) == 2  # no summary.json yet that names the data
    used = DataUsed(name="digits", train=9, test=9, digest="")
    Stopwatch("test").summary("defence", [], seed=0, data=used).write(tmp_path / "summary.json")
    assert run(*arguments) == 0
    summary = Summary.read(tmp_path / "evaluation" / "summary.json")
    assert summary.rows[0]["model"] == "cropd"
    assert summary.threat == Threat("Linf", 0.123456)  # not the four digits that people are shown
    assert summary.data is not None
    assert summary.data.name == "digits"
    assert run(*[part for part in arguments if part != "--trust-remote-code"]) == 2  # code must be trusted


def test_dtype_and_attack_dtype(tmp_path: Path) -> None:
    quick = {"attacks": "pgd-5"}
    for name, extra in {
        "whole": [],
        "half": ["--dtype", "bfloat16"],
        "fast": ["--attack-dtype", "bfloat16"],
        "measured": ["--attack-dtype", "auto"],
    }.items():
        assert run(*options(tmp_path / name, **quick), "--no-audit", *extra) == 0
    values = {
        n: Summary.read(tmp_path / n / "summary.json").rows[0] for n in ("whole", "half", "fast", "measured")
    }
    assert values["measured"]["clean"] == values["whole"]["clean"]
    timed = Summary.read(tmp_path / "measured" / "summary.json").details["evaluation"]["attack_dtype"]
    assert timed["chosen"] in ("float32", "bfloat16")
    assert values["fast"]["clean"] == values["whole"]["clean"]  # verdicts stay in float32
    assert values["half"]["pgd-5"]["value"] == pytest.approx(values["whole"]["pgd-5"]["value"], abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--model must be given, or a saved defence, and not both, got neither"),
        (["somewhere", "--model", LINEAR], "got both"),
        (["no-such-folder/x/y"], "SAVED must be an existing folder or a hub id"),
        (
            ["--model", "linear"],
            "--model must be a hub id within reach, a local",
        ),
        (
            ["--model", "tests.evaluation.subjects:nothing", "--data", "digits"],
            "--model must be an importable",
        ),
        (["--model", "tests.evaluation.subjects:not_a_module"], "returns an nn.Module, got str"),
        (["--model", LINEAR, "--out", "x"], "data must be given with --model"),
        (["--model", LINEAR, "--data", "digits"], "out must be given with --model"),
        (["--model", LINEAR, "--data", "digits", "--out", "x", "--eps", "0"], "eps must be a number above 0"),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--norm", "L7"],
            "--norm must be one of Linf, L2, L1",
        ),
        (["--model", LINEAR, "--data", "digits", "--out", "x", "--attacks", "magic"], "--attacks must be"),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--limit", "0"],
            "--limit must be at least 1, got 0",
        ),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--batch-size", "0"],
            "--batch-size must be at least 1",
        ),
        (["--model", LINEAR, "--data", "digits", "--out", "x", "--seeds", "0"], "seeds must be at least 1"),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--dtype", "int8"],
            "--dtype must be one of float32",
        ),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--attack-dtype", "x"],
            "--attack-dtype must be one of float32",
        ),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--strict", "--no-audit"],
            "strict must be used",
        ),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--device", "quantum"],
            "device must be one of",
        ),
        (
            ["--model", LINEAR, "--data", "digits", "--out", "x", "--audit-examples", "2"],
            "--audit-examples must",
        ),
        (["--model", LINEAR, "--data", "no.npz", "--out", "x"], "no.npz, which does not exist"),
        (["--model", LINEAR, "--data", "digits", "--out", "x", "--against", "nowhere"], "nowhere"),
    ],
)
def test_wrong_inputs_are_one_sentence_and_exit_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not (tmp_path / "x" / "summary.json").exists()


def test_a_folder_of_another_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options(tmp_path, attacks="fgsm"), "--no-audit") == 0
    assert run(*options(tmp_path, attacks="fgsm", eps="0.07"), "--no-audit", "--resume") == 2
    assert "--resume must be of the run in" in capsys.readouterr().err


def test_an_evaluation_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options(tmp_path, attacks="fgsm"), "--no-audit") == 0
    assert run(*options(tmp_path, attacks="pgd-2"), "--no-audit") == 2
    assert "--out must be a new folder unless resume is given" in capsys.readouterr().err


def test_a_verdict_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "verdicts.safetensors").write_bytes(b"\x00" * 20)
    assert run(*options(tmp_path / "x", attacks="fgsm"), "--no-audit", "--against", str(other)) == 2
    assert "must be a safetensors file" in capsys.readouterr().err


def test_a_classifier_of_larger_images_judges_arrays_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It resizes inside itself: nobody asked for an --image-size that the digits do not have."""
    known = ZOO["vit classifier"]
    names = {number: str(number) for number in range(10)}
    build(Animal(**{**vars(known), "settings": {**known.settings, "id2label": names}}), tmp_path / "hub")
    asked = options(tmp_path / "out", str(tmp_path / "hub"), attacks="fgsm", limit="4")
    assert run(*asked, "--no-audit") == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "certify"])
def test_a_file_names_the_logits_of_a_model_that_knows_more_classes(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(out: str, model: str, *more: str) -> int:
        fast = {"evaluate": ["--attacks", "fgsm", "--no-audit"], "certify": ["--n", "10", "--n0", "5"]}[
            command
        ]
        where = ["--data", "digits", "--limit", "60", "--out", str(tmp_path / out)]
        with pytest.raises(SystemExit) as ended:
            main([command, "--model", model, *where, *fast, *more])
        return int(ended.value.code or 0)

    names, few = tmp_path / "names.txt", tmp_path / "few.txt"
    names.write_text("cat\ndog\n" + "\n".join("0123456789"))
    few.write_text("\n".join("0123456789"))
    others = "tests.cli.factories:among_others"
    assert asked("alone", LINEAR) == 0
    assert asked("named", others, "--classes", str(names)) == 0
    alone, named = (Summary.read(tmp_path / out / "summary.json").rows[0] for out in ("alone", "named"))
    assert [value for key, value in named.items() if key != "model"] == [
        value for key, value in alone.items() if key != "model"
    ]
    capsys.readouterr()
    assert asked("wrong", others, "--classes", str(few)) == 2
    assert "--classes must be 12 names, one for each of the model's logits, got 10" in capsys.readouterr().err
    few.write_text("\n".join([*"abcd", *"01234567"]))
    assert asked("wrong", others, "--classes", str(few)) == 2
    assert "no name for 8, 9" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
