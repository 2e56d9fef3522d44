"""Settings of a wrong kind are one sentence: the argument, what it must be, what came."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heirloom import (
    DefendSettings,
    EncoderSettings,
    HeadSettings,
    InputError,
    PreprocessorSettings,
    Threat,
    TrainingSettings,
    defend,
    load_encoder,
)
from heirloom.data.labelled import ImageSource
from heirloom.defence.settings import DistilSettings

THREAT = Threat("Linf", 0.1)
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (PreprocessorSettings, {"steps": ()}, "steps must be at least 1 each"),
    (PreprocessorSettings, {"steps": (2, 2, 2)}, "steps must be at least 1 each, one number or two"),
    (PreprocessorSettings, {"steps": 3}, "steps must be a tuple of whole numbers, got 3."),
    (PreprocessorSettings, {"steps": (2.5,)}, "steps must be a tuple of whole numbers"),
    (PreprocessorSettings, {"minutes": "1"}, "minutes must be a number, got '1'."),
    (PreprocessorSettings, {"minutes": True}, "minutes must be a number, got True."),
    (PreprocessorSettings, {"temperature": None}, "temperature must be a number, got None."),
    (PreprocessorSettings, {"vae": 3}, "vae must be a text"),
    (PreprocessorSettings, {"distil": {"width": 8}}, "distil must be a DistilSettings"),
    (PreprocessorSettings, {"training": None}, "training must be a TrainingSettings"),
    (PreprocessorSettings, {"architecture": "jpeg"}, "architecture must be one of mlp, conv"),
    (DistilSettings, {"width": 4.5}, "width must be a whole number, got 4.5."),
    (DistilSettings, {"paints": "no"}, "paints must be True or False"),
    (DefendSettings, {"threat": "Linf"}, "threat must be a Threat"),
    (DefendSettings, {"defence": "cropd"}, "defence must be a PreprocessorSettings"),
    (DefendSettings, {"compare": "identity"}, "compare must be a tuple of words"),
    (DefendSettings, {"attacks": "pgd-2"}, "attacks must be a tuple of texts"),
    (DefendSettings, {"attacks": ()}, "attacks must be at least one"),
    (DefendSettings, {"attack_dtype": "int8"}, "attack_dtype must be one of float32"),
    (DefendSettings, {"audit_examples": 1.5}, "audit_examples must be a whole number"),
    (TrainingSettings, {"batch_size": "64"}, "batch_size must be a whole number"),
    (HeadSettings, {"epochs": 1.5}, "epochs must be a whole number"),
    (EncoderSettings, {"source": None}, "source must be a text"),
]


@pytest.mark.parametrize(("kind", "wrong", "said"), WRONG)
def test_a_setting_of_another_kind_is_one_sentence(kind: Any, wrong: dict[str, Any], said: str) -> None:
    needed = {DefendSettings: {"threat": THREAT, "defence": PreprocessorSettings()}}.get(kind, {})
    with pytest.raises(InputError) as raised:
        kind(**{**needed, **wrong})
    assert str(raised.value).startswith(said)


def test_what_is_of_its_kind_passes() -> None:
    chosen = PreprocessorSettings(steps=[2], minutes=1, training=TrainingSettings(epochs=torch.Size([3])[0]))  # type: ignore[arg-type]
    assert asdict(chosen)["minutes"] == 1


def test_numbers_of_numpy_become_pythons() -> None:
    training = TrainingSettings(
        epochs=np.int64(2), learning_rate=np.float32(0.25), betas=[np.float64(0.5), 0.9]
    )  # type: ignore[arg-type]
    threat = Threat("Linf", np.float32(0.5))  # type: ignore[arg-type]
    for value in (training.epochs, training.learning_rate, training.betas[0], threat.eps):
        assert type(value) in (int, float)
    assert json.loads(json.dumps([asdict(training), asdict(threat)]))[0]["learning_rate"] == 0.25
    for wrong in (np.float64("nan"), np.bool_(True), True):
        with pytest.raises(InputError, match="eps must be a number above 0"):
            Threat("Linf", wrong)  # type: ignore[arg-type]


def test_what_is_no_part_of_a_defence_is_refused_before_its_folder_is_made(
    digits: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(EncoderSettings(str(foundation)))
    settings = DefendSettings(threat=THREAT, defence=PreprocessorSettings(steps=(1,)))
    fine: dict[str, Any] = {"encoder": encoder, "data": digits, "settings": settings, "out": tmp_path / "out"}
    for name, value, said in (
        ("encoder", torch.nn.Flatten(), "encoder must be a FrozenEncoder, got Flatten."),
        ("data", "digits", "data must be an ImageSource, got 'digits'."),
        ("settings", None, "settings must be a DefendSettings, got None."),
        ("head", torch.nn.Sequential(), "head must be None, an nn.Linear or OwnLogits, got Sequential."),
    ):
        with pytest.raises(InputError) as raised:
            defend(**{**fine, name: value})
        assert str(raised.value) == said
    device = PreprocessorSettings(training=TrainingSettings(device="foo"))
    with pytest.raises(InputError, match="device must be one of"):
        defend(encoder, digits, DefendSettings(threat=THREAT, defence=device), tmp_path / "out")
    assert not (tmp_path / "out").exists()
