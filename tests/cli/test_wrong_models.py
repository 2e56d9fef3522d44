"""Whatever a user's own module or factory does is one sentence that says where; other types are taken."""

from pathlib import Path

import pytest

from heirloom.cli import app, common

COMMANDS = ("defend", "evaluate", "certify", "probe", "features build")
SAID = {
    "a_tuple": "one that returns a tensor, got tuple",
    "a_dictionary": "one that returns a tensor, got dict",
    "infinite": "finite numbers, got NaN or infinity",
    "whole_numbers": "floating numbers, got torch.int64",
    "one_row": "a row for each of 2 images, got 1",
    "of_other_images": "takes images of 1 x 8 x 8, got RuntimeError in factories.py, line",
    "raises_in_forward": "got KeyError in factories.py, line",
    "raises": "got RuntimeError in tests.cli.factories:raises: the weights are elsewhere",
    "no_module": "a factory that returns an nn.Module, got str",
}


class BegunError(BaseException):
    """Work began."""


@pytest.fixture(autouse=True)
def _nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: object, **__: object) -> None:
        raise BegunError

    monkeypatch.setattr("heirloom.runs.Run.__init__", begun)
    monkeypatch.setattr("heirloom.cli.plan.lines", lambda plan: [])


def _words(command: str, source: str, out: Path) -> list[str]:
    option = "--encoder" if command in ("probe", "features build") else "--model"
    words = [*command.split(), option, source, "--data", "digits", "--limit-test", "12", "--out", str(out)]
    return words if command in ("evaluate", "certify") else [*words, "--limit", "60"]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_module_does_wrong_is_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in SAID.items():
        assert common.run(app, _words(command, f"tests.cli.factories:{name}", tmp_path / "out")) == 2, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert said in error
        assert error.startswith(f"heirloom: {'--encoder' if '--encoder' in error else '--model'} must be")
        assert ("--encoder" in error) == (command in ("probe", "features build"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_of_another_type_is_taken(command: str, tmp_path: Path) -> None:
    names = ["of_double_precision"] + ["that_casts_for_itself"] * (command in ("evaluate", "certify"))
    for name in names:
        with pytest.raises(BegunError):
            common.run(app, _words(command, f"tests.cli.factories:{name}", tmp_path / "out"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_grey_model_on_colour_images_and_a_text_model_are_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from transformers import BertConfig, BertModel

    from tests.models.zoo import TEXT

    BertModel(BertConfig(**TEXT)).save_pretrained(tmp_path / "text")
    images, labels = np.zeros((60, 3, 8, 8), dtype=np.float32), np.arange(60) % 3
    np.savez(tmp_path / "colour.npz", x_train=images, y_train=labels, x_test=images[:12], y_test=labels[:12])
    words = _words(command, "tests.evaluation.subjects:linear", tmp_path / "out")
    words[words.index("digits")] = str(tmp_path / "colour.npz")
    assert common.run(app, words) == 2
    assert "one that takes images of 3 x 8 x 8" in capsys.readouterr().err
    words = _words(command, str(tmp_path / "text"), tmp_path / "out")
    assert common.run(app, words) == 2
    assert "must be" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
