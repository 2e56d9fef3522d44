"""Every option of every command with wrong values, found on the command line itself, so that new ones are covered.

Each is refused with exit status 2 and one sentence that names the option, before anything is trained or written.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from heirloom.cli import app, common
from heirloom.cli.checks import command_of
from heirloom.data import images as image_sources
from heirloom.defence.saved import DefendedModel
from heirloom.heads.linear import _fresh_head
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.results.provenance import Stopwatch
from heirloom.results.statistics import proportion
from heirloom.threat import Threat

FILES = ("onnx", "program", "html", "picture")
OUTPUTS = ("out", *FILES)
NOWHERE = "./no/such/place"
WRONG: dict[Any, list[str]] = {
    int: ["", "many", "1.5", "nan", "inf", str(2**70), str(-(2**70)), "-1", "0"],
    float: ["", "many", "nan", "inf", "-inf", "1e400", "-1", "0"],
    str: ["", NOWHERE, "-1", "nan", "inf"],
    Literal: ["", "no-such-choice"],
}
# by name, besides those of the type: what looks right and is not
ALSO: dict[str, list[str]] = {
    "eps": ["0", "8", "8/0", "nan/255", "1e400", "1/2/3"],
    "attack_step_size": ["0", "8/0"],
    "radii": ["0.1,", "0.1,0", "0.1,8"],
    "weights": ["1,,2", "1,nan"],
    "attacks": ["pgd-0", "pgd--1", "pgd-10,pgd-10", f"pgd-{2**70}", "fgsm;pgd-10", ","],
    "compare": ["identity,magic", "identity,identity"],
    "steps": ["1,x", "1,-1"],
    "keep_epochs": ["1,x", "0", "9999"],
    "device": ["gpu", "cuda:99", "meta"],
    "model": ["FOLDER", "FILE", "no.module:build", "json:no_such", "math:pi", "tests.cli.factories:raises"],
    "encoder": ["FOLDER", "FILE", "no.module:build", "json:no_such", "tests.cli.factories:raises"],
    "surrogate": ["no.module:build", "json:no_such", "tests.cli.factories:raises"],
    "bpda": ["no.such.part", "head=no.module:build"],
    "data": ["FOLDER", "FILE", "BROKEN.npz"],
    "shares": ["0,2", "0,x"],
    "pretrain_eps": ["0,x", "0,-1"],
    "m": ["0", "1,x", "5000"],
    "sigma": ["0"],
    "validation": ["1", "1.5"],
    "image_size": ["8192"],
    "recipe": ["inheritance", "inheritance/table-99"],
}
# right after all: (option, value) or (command, option, value)
FINE = {
    ("seed", "0"),
    ("name", NOWHERE),
    ("name", "-1"),
    ("name", "nan"),
    ("name", "inf"),
    ("defend", "audit_examples", "0"),
    ("defend", "delay", "0"),
    ("defend", "thumbnail", "0"),
    ("defend", "fidelity", "0"),
    ("weight", "0"),
    ("compare", ""),
    ("shares", ""),
    ("pretrain_eps", ""),
    ("pretrain", "adversarial_epochs", "0"),
    ("pretrain", "clean_epochs", "0"),
    ("pretrain", "beta", "0"),
    ("features build", "eps", "8"),  # in L2
    ("warmup", "0"),
    ("weight_decay", "0"),
    ("head_weight_decay", "0"),
    ("regulariser_weight", "0"),
    ("checkpoint_seconds", "0"),
    ("restarts", "0"),
    ("variant_repeats", "0"),
    ("noisy_seeds", "0"),
    ("edge_filters", "0"),
    ("zeta", "0"),
}
BASE = {
    "evaluate": ["SAVED"],
    "certify": ["SAVED"],
    "export": ["--onnx", "OUT/model.onnx"],
    "features build": ["--variant", "random-target"],
    "pretrain": ["--network", "resnet8", "--adversarial"],
    "features measure": ["--robust", "BUILT"],
}
ALONG = {"vae": ["--method", "vae"]}  # what an option needs beside it, so that it is read
RIGHT = {
    "model": "FOUNDATION",
    "encoder": "FOUNDATION",
    "encoders": "FOUNDATION",
    "data": "digits",
    "out": "OUT",
    "folder": "RESULT",
    "folders": "RESULT",
    "images": "PICTURE",
    "recipe": "inheritance/table-1",
    "summary": "RESULT",
}
RIGHT_OF = {
    ("features measure", "models"): "SAVED",
    ("show", "folders"): "SAVED",
    ("predict", "model"): "SAVED",
    ("export", "model"): "SAVED",
}
BEYOND_A_RUN = ("predict", "report", "leaderboard")  # they open none: here they run to their end


class BegunError(BaseException):
    """Work began: what should have been refused was not."""


def _commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield " ".join(names), command
    for name, one in below.items():
        yield from _commands(one, (*names, name))


COMMANDS = dict(_commands(command_of(app)))


def _kind(parameter: Any) -> Any:
    annotation = parameter.type_descriptor.annotation
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _called(parameter: Any) -> str:
    return parameter.name.upper() if _is_argument(parameter) else max(parameter.opts, key=len)


def _wrong(command: str, parameter: Any) -> list[str]:
    kind = _kind(parameter)
    if kind is Path:
        below = (
            ["FILE/below"] if parameter.name in FILES else ["FILE", "FILE/below"]
        )  # a file is written anew
        values = ["", *(below if parameter.name in OUTPUTS else [NOWHERE, "EMPTY", "FILE"])]
    else:
        values = WRONG[Literal if get_origin(kind) is Literal else kind]
    if kind is str:
        values = [*values, *ALSO.get(parameter.name, [])]
    name = parameter.name
    return [v for v in dict.fromkeys(values) if not {(name, v), (command, name, v)} & FINE]


def _words(command: str, changed: Any = None, value: str = "") -> list[str]:
    """The command line of ``command`` that is right but for one value."""
    words, base = command.split(), list(BASE.get(command, []))
    last: list[str] = []
    for parameter in COMMANDS[command].params:
        right = RIGHT_OF.get((command, parameter.name), RIGHT.get(parameter.name))
        here = parameter is changed
        if here and not _is_argument(parameter):
            words += [max(parameter.opts, key=len), value]
        elif here or parameter.required or parameter.name == "out":
            assert right or here, f"the walk needs a right value for {parameter.name} of {command}"
            base = [w for w in base if w != "SAVED" or not here]
            if _is_argument(parameter):
                last += [value if here else str(right)]
            else:
                words += [max(parameter.opts, key=len), str(right)]
    kept = [w for i, w in enumerate(base) if changed is None or not _overridden(base, i, changed)]
    kept += [] if changed is None else ALONG.get(changed.name, [])
    return [*words, *kept, *(["--", *last] if last else [])]


def _overridden(base: list[str], place: int, changed: Any) -> bool:
    return base[place] in changed.opts or (place > 0 and base[place - 1] in changed.opts)


@pytest.fixture(scope="module")
def places(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the capital words stand for: a foundation, a saved defence, a result; broken things of every kind."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("walk")
    encoder = load_encoder(EncoderSettings(str(foundation)))
    head = _fresh_head(encoder(torch.rand(1, 1, 8, 8)).shape[1], 10, 0).requires_grad_(False)
    model = DefendedModel(
        torch.nn.Identity(),
        encoder,
        head,
        image_shape=(1, 8, 8),
        classes=tuple("0123456789"),
        defence={"threat": {"norm": "Linf", "eps": 0.1}, "method": "identity"},
    )
    model.save_pretrained(folder / "saved")
    share = proportion(torch.tensor([True, False]))
    row = {"model": "m", "clean": share, "fgsm": share}
    details = {"evaluation": {"repaired": {}}}
    Stopwatch(f"heirloom evaluate {folder / 'saved'}").summary(
        "evaluation", [row], seed=0, threat=Threat("Linf", 0.1), details=details
    ).write(folder / "result" / "summary.json")
    (folder / "saved" / "summary.json").write_text(
        (folder / "result" / "summary.json").read_text().replace('"data": null', '"data": ' + _DIGITS)
    )
    built = ["features", "build", "--encoder", str(foundation), "--data", "digits", "--steps", "1"]
    assert (
        common.run(app, [*built, "--limit", "20", "--limit-test", "20", "--out", str(folder / "built")]) == 0
    )
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for name in ("config.json", "model.safetensors", "summary.json"):
        (folder / "broken" / name).write_bytes(b"{broken")
    (folder / "file").write_bytes(b"\xff\xfe{broken")
    (folder / "broken.npz").write_bytes(b"zzz")
    Image.new("L", (8, 8)).save(folder / "a.png")
    return {
        "FOUNDATION": str(foundation),
        "SAVED": str(folder / "saved"),
        "RESULT": str(folder / "result"),
        "PICTURE": str(folder / "a.png"),
        "BUILT": str(folder / "built"),
        "EMPTY": str(folder / "empty"),
        "FOLDER": str(folder / "broken"),
        "FILE": str(folder / "file"),
        "BROKEN": str(folder / "broken"),
    }


_DIGITS = '{"name": "digits", "train": 0, "test": 2, "digest": "0"}'


@pytest.fixture(autouse=True)
def _nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def begun(*_: object, **__: object) -> None:
        raise BegunError

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("heirloom.runs.Run.__init__", begun)
    monkeypatch.setattr("torch.optim.Optimizer.__init__", begun)
    monkeypatch.setattr("torch.onnx.export", begun)
    monkeypatch.setattr("torch.export.export", begun)
    monkeypatch.setattr("heirloom.show.app.build_app", begun)
    monkeypatch.setattr("heirloom.show.twin.write_twin", begun)
    monkeypatch.setattr(image_sources, "_digits", cache(image_sources._digits))


def _placed(words: list[str], places: dict[str, str]) -> list[str]:
    everything = {**places, "OUT": "out"}
    pattern = re.compile(rf"\b({'|'.join(everything)})\b")
    return [pattern.sub(lambda found: everything[found[1]], word) for word in words]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_that_is_varied_is_right(command: str, places: dict[str, str]) -> None:
    words = _placed(_words(command), places)
    if command in BEYOND_A_RUN:
        assert common.run(app, words) == 0
    else:
        with pytest.raises(BegunError):
            common.run(app, words)


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_values_are_refused_in_one_sentence_before_anything_begins(
    command: str, places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for parameter in COMMANDS[command].params:
        if getattr(parameter, "is_flag", False):
            continue
        for value in _wrong(command, parameter):
            words = _placed(_words(command, parameter, value), places)
            try:
                code: object = common.run(app, words)
            except BaseException as error:  # a traceback is what this test looks for
                code = repr(error)[:160]
            out, err = capsys.readouterr()
            named = re.search(rf"(?<![\w-]){re.escape(_called(parameter))}(?![\w-])", err)
            holds = (
                code == 2 and out == "" and err.startswith("heirloom: ") and err.count("\n") == 1 and named
            )
            if not holds or list(tmp_path.iterdir()):
                found.append(
                    f"{_called(parameter)} {value!r}: {code} {out[-200:]!r} {err!r} left {list(tmp_path.iterdir())}"
                )
    assert not found, f"{command}:\n" + "\n".join(found)
