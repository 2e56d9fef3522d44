"""What all commands share: --config, --json, -q, -v, help in groups, rerun. One walk goes over all commands."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from heirloom import InputError, Summary
from heirloom.cli import app, common, groups
from heirloom.cli.config import defaults_from, recorded_options
from heirloom_recipes.record import ROOT

LINEAR = "tests.evaluation.subjects:linear"
TINY = "--data digits --limit 60 --limit-test 12 --attacks fgsm --validation 0.2"
# every command that measures, at its smallest; FOUNDATION and EVALUATED are filled in
MEASURES = {
    "defend": f"--model FOUNDATION {TINY} --method identity --compare identity --head-epochs 1 --audit-examples 0",
    "evaluate": f"--model {LINEAR} --data digits --limit 12 --attacks fgsm --no-audit",
    "certify": f"--model {LINEAR} --data digits --limit 3 --n 20 --n0 5",
    "pretrain": f"{TINY} --network resnet8 --clean-epochs 1 --batch-size 16",
    "probe": f"--encoder FOUNDATION {TINY} --epochs 1",
    "inspect": "FOUNDATION",
    "leaderboard": "EVALUATED",
    "features build": "--encoder FOUNDATION --data digits --limit 20 --limit-test 4 --steps 2",
    "features measure": f"{LINEAR} --robust BUILT",
    "reproduce": "features/planted --scale smoke",
    "theory cropd-bound": "--model FOUNDATION --epochs 1 --limit-test 4 --weights 0 --radii 0.1",
    "theory patches": "",
    "theory patches phases": "--seeds 1 --noisy-seeds 0 --edge-filters 0 --filters 4",
    "theory patches growth": "--seeds 1 --filters 4",
    "theory patches minima": "",
    "theory patches perturbation": "--seeds 1",
    "theory patches attacks": "--seeds 1",
    "theory patches regime": "--seeds 1",
    "theory sparse-coding": "--tiny",
    "theory sparse-coding figure-4": "--tiny",
    "theory sparse-coding purify": "--tiny",
    "theory sparse-coding inherit": "--tiny",
    "theory sparse-coding lemma": "--tiny",
    "theory sparse-coding theorem": "--tiny",
    "demo": "",
}
# one of each way that commands are built; the others differ in what they measure alone
RUN = (
    "defend",
    "evaluate",
    "certify",
    "pretrain",
    "probe",
    "inspect",
    "leaderboard",
    "features build",
    "features measure",
)
RUN += ("theory patches minima", "theory sparse-coding lemma", "theory cropd-bound", "reproduce")
# commands that measure and do not take --attack-dtype: why not
WITHOUT_PASSES_OF_A_TYPE = {
    "certify": "draws noise, and attacks nothing",
    "inspect": "attacks nothing",
    "leaderboard": "attacks nothing",
    "demo": "its figures are recorded in float32",
    "reproduce": "a recipe's scale says all that decides its figures",
    "features build": "inverts representations, and judges nothing",
    "features measure": "judges on images that are given, and attacks nothing",
    "theory": "laboratories in closed form or float64, of seconds",
}
WITHOUT_FIGURES = {"predict", "export", "report", "rerun", "show"}


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, groups that are commands too."""

    def visit(command: Any, words: list[str]) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", {})
        if words and (not inner or command.invoke_without_command):
            yield " ".join(words), command
        for name, found in inner.items():
            yield from visit(found, [*words, name])

    yield from visit(typer.main.get_command(app), [])


COMMANDS = dict(leaves())
COMMAND: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def made(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a command, measured with --json."""
    folder = tmp_path_factory.mktemp("made")
    for name in RUN:
        assert common.run(app, line(name, foundation, folder / name, folder), Keep()) == 0, name
    return folder


class Keep(common.Voice):
    """Speaks to nobody."""

    def __init__(self) -> None:
        super().__init__(quiet=True)


def line(name: str, foundation: Path, out: Path, folder: Path) -> list[str]:
    places = {"FOUNDATION": str(foundation)}
    places |= {
        name.upper(): str(folder / place)
        for name, place in (("evaluated", "evaluate"), ("built", "features build"))
    }
    return [*name.split(), *(places.get(word, word) for word in MEASURES[name].split()), "--out", str(out)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_shared_options_in_groups(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert common.run(app, [*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--config", "--json", "-q, --quiet", "-v, --verbose"):
        assert option in shown.partition("Every command:")[2]
    names = [param.name for param in COMMANDS[name].params]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", MEASURES)
def test_what_attacks_to_judge_takes_the_type_of_the_passes_auto_too(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params = {param.name: param for param in COMMANDS[name].params}
    excused = {name, name.partition(" ")[0]} & set(WITHOUT_PASSES_OF_A_TYPE)
    if excused:
        assert not {"attacks", "attack_dtype"} & set(params)
    else:
        assert common.run(app, [*name.split(), "--help"]) == 0
        assert "--attack-dtype <float32|bfloat16|float16|auto>" in capsys.readouterr().out


def test_every_command_that_measures_is_known_here() -> None:
    assert set(MEASURES) == set(COMMANDS) - WITHOUT_FIGURES
    for name in MEASURES:
        assert "out" in {param.name for param in COMMANDS[name].params}, name


def test_help_shows_first_what_most_people_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.run(app, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("defend ") < shown.index("leaderboard ") < shown.index("theory ")
    assert shown.count("...") == 1  # ARGS...: every command's sentence stands to its end
    assert {name for names in groups.COMMANDS.values() for name in names} >= set(
        typer.main.get_command(app).commands  # type: ignore[attr-defined]
    )
    assert common.run(app, ["defend", "--help"]) == 0
    shown = capsys.readouterr().out
    titles = [title for title in ("Options:", *(f"{t}:" for t in groups.OPTIONS)) if title in shown]
    assert [shown.index(title) for title in titles] == sorted(shown.index(title) for title in titles)
    assert shown.index("--eps") < shown.index("--temperature")


def test_options_in_groups_exist() -> None:
    known = {param.name for command in COMMANDS.values() for param in command.params} | {"help"}
    assert {name for names in groups.OPTIONS.values() for name in names} <= known


def test_completion_knows_commands_options_and_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.core import TyperGroup

    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    context = root.make_context("heirloom", ["evaluate"], resilient_parsing=True)
    assert "evaluate" in {item.value for item in root.shell_complete(context, "ev")}
    command: Any = COMMANDS["evaluate"]
    norm = next(param for param in command.params if param.name == "norm")
    assert {item.value for item in norm.shell_complete(context, "L")} == {"Linf", "L2", "L1"}
    recipe = next(param for param in COMMANDS["reproduce"].params if param.name == "recipe")
    assert "features/planted" in {item.value for item in recipe.shell_complete(context, "features/")}
    params = {param.name: param for param in COMMANDS["reproduce"].params}
    for name, incomplete, wanted in (("scale", "s", {"smoke", "small"}), ("only", "m", {"mnist"})):
        assert {item.value for item in params[name].shell_complete(context, incomplete)} == wanted
    assert "--install-completion" in {option for param in root.params for option in param.opts}


@pytest.mark.parametrize("name", RUN)
def test_a_recorded_run_is_repeated_and_a_difference_is_told(
    name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = [p for p in (made / name).rglob("summary.json") if "work" not in p.parts]
    assert Summary.read(path).options["command"] == name
    again = tmp_path / "again"
    assert common.run(app, ["rerun", str(path), "--out", str(again), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["same"] is True
    content = json.loads(path.read_text())
    cell = next(key for key, value in content["rows"][0].items() if not isinstance(value, str))
    content["rows"][0][cell] = "other"
    (tmp_path / "summary.json").write_text(json.dumps(content))
    if name in ("evaluate", "inspect"):  # the rest of the way is the same for all
        out = ["--out", str(tmp_path / "third")]
        assert common.run(app, ["rerun", str(tmp_path / "summary.json"), *out]) == 1
        said = capsys.readouterr().out
        assert f"row 1 ({next(v for v in content['rows'][0].values() if isinstance(v, str))}): {cell}" in said


def test_verdicts_are_compared_by_digest(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((made / "evaluate" / "summary.json").read_text())
    content["details"]["evaluation"]["verdicts"]["fgsm"] = "0" * 32
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert common.run(app, ["rerun", str(tmp_path), "--out", str(tmp_path / "again")]) == 1
    said = capsys.readouterr().out
    assert "verdicts on single images differ by digest: evaluation.verdicts.fgsm" in said


def test_one_result_of_many_is_compared_with_itself(made: Path, tmp_path: Path) -> None:
    from heirloom.cli.rerun import _counterpart

    whole, member = (Summary.read(made / name / "summary.json") for name in ("inspect", "evaluate"))
    for place in ("digits", "work/digits", "other"):
        (tmp_path / place).mkdir(parents=True)
        content = member.model_dump(mode="json") | ({"seed": 7} if place == "other" else {})
        (tmp_path / place / "summary.json").write_text(json.dumps(content))
    assert _counterpart(whole, whole, tmp_path, tmp_path) == (whole, tmp_path)
    assert _counterpart(member, whole, tmp_path, tmp_path)[1] == tmp_path / "digits"
    assert (
        _counterpart(Summary.read(made / "certify" / "summary.json"), whole, tmp_path, tmp_path)[0] == whole
    )


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("evaluate", {"data": "./no-such-images"}, "--data must be an existing folder"),
        ("evaluate", {"model": "./no-such-model"}, "--model must be a hub id within reach"),
        ("probe", {"encoder": "./no-such-model"}, "must be a hub id within reach"),
        ("leaderboard", {"folders": ["no-such-folder"]}, "which does not exist"),
        (
            "reproduce",
            {"recipe": "features/table-1", "data": ["mnist=./no-such-images"]},
            "--data must be an existing folder",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(
    name: str, change: dict[str, Any], said: str, made: Path, tmp_path: Path, capsys: Any
) -> None:
    (path,) = [p for p in (made / name).rglob("summary.json") if "work" not in p.parts]
    content = json.loads(path.read_text())
    content["options"] |= change
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert common.run(app, ["rerun", str(tmp_path), "--out", str(tmp_path / "again")]) == 2
    out, error = capsys.readouterr()
    assert said in " ".join(error.split())
    assert (out, len(error.strip().splitlines())) == ("", 1)
    assert not (tmp_path / "again").exists()


def test_a_result_that_no_command_made_is_refused(made: Path, tmp_path: Path, capsys: Any) -> None:
    content = json.loads((made / "evaluate" / "summary.json").read_text())
    content |= {"options": {}, "command": "python benchmarks/attacks.py"}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert common.run(app, ["rerun", str(tmp_path)]) == 2
    assert "must be a result of a heirloom command" in capsys.readouterr().err


def test_a_result_without_options_is_repeated_from_its_line(made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "evaluate" / "summary.json").read_text())
    assert content["command"].startswith("heirloom evaluate --model")
    del content["options"]
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert common.run(app, ["rerun", str(tmp_path), "--out", str(tmp_path / "again"), "-q"]) == 0


@pytest.mark.parametrize("name", ["evaluate", "inspect", "theory patches minima"])
def test_json_is_one_document_and_quiet_says_nothing(
    name: str, made: Path, foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line(name, foundation, tmp_path / "out", made)
    assert common.run(app, [*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    assert str(tmp_path / "out" / "report.html") in document["files"]
    assert common.run(app, [*words[:-1], str(tmp_path / "quiet"), "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert common.run(app, [*words, "--json"]) == 2  # the folder holds a run
    out, error = capsys.readouterr()
    assert json.loads(out)["error"] in error
    assert common.run(app, [*words, "-v"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert f'"command": "{name}"' in error


def test_a_negative_verdict_still_prints_its_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        "--model",
        "heirloom.evaluation.broken:pixel_quantiser",
        "--data",
        "digits",
        "--limit",
        "16",
    ]
    words += ["--attacks", "fgsm", "--eps", "0.1", "--strict", "--audit-examples", "16", "--json"]
    assert common.run(app, [*words, "--out", str(tmp_path)]) == 1
    findings = json.loads(capsys.readouterr().out)["audit"]["findings"]
    assert "fail" in {finding["verdict"] for finding in findings}


@pytest.mark.parametrize("kind", ["json", "toml", "summary"])
def test_config_gives_options_and_the_line_wins(
    kind: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "model": LINEAR,
        "data": "digits",
        "limit": 12,
        "attacks": ["fgsm"],
        "audit": False,
        "eps": 0.25,
    }
    path = {"summary": made / "evaluate" / "summary.json"}.get(kind, tmp_path / f"options.{kind}")
    if kind == "json":
        path.write_text(json.dumps(options))
    elif kind == "toml":
        path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in options.items()))
    words = ["evaluate", "--config", str(path), "--batch-size", "7", "--out", str(tmp_path / "out")]
    assert common.run(app, words) == 0
    given = Summary.read(tmp_path / "out" / "summary.json").options
    assert (given["limit"], given["attacks"], given["batch_size"], given["audit"]) == (12, "fgsm", 7, False)
    if kind != "summary":
        assert given["eps"] == "0.25"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"atacks": "fgsm"}', "'atacks'"),
        ('{"out": "x", "limit": "many"}', "limit"),
        ('{"limit": true}', "--limit"),
        ('{"audit": "no"}', "--audit must be true or false"),
        ('{"data": {"a": 1}}', "--data must be a number or a text"),
        ("[1]", "--config must be a JSON object"),
        ("{", "--config must be a JSON or TOML file"),
    ],
)
def test_a_wrong_config_is_one_sentence(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.json").write_text(content)
    words = [
        "evaluate",
        "--config",
        str(tmp_path / "c.json"),
        "--model",
        LINEAR,
        "--out",
        str(tmp_path / "o"),
    ]
    assert common.run(app, words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_a_config_of_another_command_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert common.run(app, ["probe", "--config", str(made / "evaluate" / "summary.json")]) == 2
    assert "--config must be of heirloom probe" in " ".join(capsys.readouterr().err.split())
    assert common.run(app, ["probe", "--config", "no-such.json"]) == 2
    assert "no-such.json, which does not exist" in " ".join(capsys.readouterr().err.split())


def test_every_record_is_given_back_or_refused_in_a_sentence() -> None:
    """``--config RECORD`` and ``rerun RECORD``: what was recorded is what the command is asked."""
    wrong = {}
    for path in (ROOT / "results").rglob("*.json"):
        content = json.loads(path.read_text())
        if "kind" in content and re.match(r"(python -m )?heirloom \w", content["command"]):
            wrong[path] = _not_given_back(path, content)
        elif "kind" in content:
            with pytest.raises(InputError, match="a result of a heirloom command"):
                recorded_options(content, COMMAND, path)
    assert len(wrong) > 40
    assert {path: names for path, names in wrong.items() if names} == {}


def _not_given_back(path: Path, content: dict[str, Any]) -> list[str]:
    """Options that the record names and a command that is given it would not be asked."""
    name = recorded_options(content, COMMAND, path)["command"]
    given = defaults_from(path, command_context(name))
    parsed = COMMANDS[name].make_context(name, [], default_map=given).params
    known = {n: v for n, v in content.get("options", {}).items() if isinstance(v, str | int | float)}
    if name == "defend" and not content.get("options"):  # older ones say it by their figures alone
        known = {"method": content["rows"][-1]["defence"]}
        known |= {"attacks": content["settings"]["attacks"].replace(" ", "")}
    return [n for n, v in known.items() if n != "command" and str(parsed[n]) != str(v)]


def command_context(name: str) -> Any:
    """The context that the parser makes for ``name``, and those above it."""
    command = COMMAND
    context = command.make_context("heirloom", [], resilient_parsing=True)
    for word in name.split():
        command = command.commands[word]
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    return context


@pytest.mark.parametrize(
    "words", ["evaluate --nope", "nosuch", "theory nosuch", "rerun RECORD", "defend --model"]
)
def test_json_on_any_error_is_one_document(words: str, tmp_path: Path, capsys: Any) -> None:
    record = str(ROOT / "results" / "audit" / "summary.json")
    line = [record if word == "RECORD" else word for word in words.split()]
    assert common.run(app, [*line, "--json"]) == 2
    out, error = capsys.readouterr()
    assert f"heirloom: {json.loads(out)['error']}" == error.strip()


@pytest.mark.parametrize("recipe", ["cropd/table-2", "inheritance/table-1", "features/table-1", "zoo"])
def test_a_mistyped_place_leaves_nothing(recipe: str, tmp_path: Path, capsys: Any) -> None:
    name = "mnist" if recipe.startswith("features") else "cifar10"
    words = ["reproduce", recipe, "--scale", "smoke", "--out", str(tmp_path / "out")]
    assert common.run(app, [*words, "--data", f"{name}=./no-such-images"]) == 2
    assert "--data must be an existing folder" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_images_for_what_reads_none_are_refused(capsys: Any) -> None:
    assert common.run(app, ["reproduce", "features/planted", "--data", "mnist=digits"]) == 2
    assert "--data must be left out for features/planted" in " ".join(capsys.readouterr().err.split())


def test_a_run_by_minutes_is_repeated_by_its_steps(made: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "boxed"
    shutil.copytree(made / "defend", folder)
    content = json.loads((folder / "summary.json").read_text())
    content["options"]["minutes"] = 1.0
    (folder / "summary.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "work")
    assert common.run(app, ["rerun", str(folder), "--out", str(tmp_path / "again")]) == 2
    assert "where the steps are that --minutes came to" in " ".join(capsys.readouterr().err.split())
    (folder / "work" / "cropd").mkdir(parents=True)
    (folder / "work" / "cropd" / "steps.json").write_text('{"steps": 3}')
    assert common.run(app, ["rerun", str(folder), "--out", str(tmp_path / "again"), "-q"]) == 0
    assert (tmp_path / "again" / "work" / "cropd" / "steps.json").exists()


def test_predictions_are_one_list(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / name)
    assert common.run(app, ["predict", str(made / "defend"), str(tmp_path), "--json"]) == 0
    assert [Path(found["file"]).name for found in json.loads(capsys.readouterr().out)] == ["a.png", "b.png"]
    assert common.run(app, ["predict", str(made / "defend"), str(tmp_path), "--json-lines"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert {"file", "predictions"} == set(json.loads(lines[1]))


def test_a_record_from_before_the_decay_of_heads_was_asked_is_repeated_with_the_one_it_had() -> None:
    with_own, with_linear = 0, 0
    for path in (ROOT / "results" / "defend").glob("*.json"):
        content = json.loads(path.read_text())
        if " defend " not in content["command"] or "--head-weight-decay" in content["command"]:
            continue
        found = recorded_options(content, COMMAND, path)
        if "head_weight_decay" in content.get("options", {}):
            continue
        kept = found.get("head", "linear") != "linear"
        assert found.get("head_weight_decay") == (None if kept else 0.01), path
        with_own, with_linear = with_own + kept, with_linear + (not kept)
    assert with_own > 5
    assert with_linear > 5
