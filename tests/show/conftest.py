"""Two small saved defences of the digits, each with what was measured and the bare model beside."""

from pathlib import Path

import pytest

from heirloom import (
    DefendSettings,
    EncoderSettings,
    PreprocessorSettings,
    Threat,
    TrainingSettings,
    defend,
    load_encoder,
)
from heirloom.data.labelled import ImageSource
from heirloom.heads.linear import HeadSettings


@pytest.fixture(scope="session")
def saved(digits: ImageSource, foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("saved")
    small = ImageSource("digits", digits.train.limit(300), digits.test.limit(30))
    for name, method in (("one", "vanilla"), ("two", "noise")):
        training = TrainingSettings(epochs=6, learning_rate=3e-3)
        settings = DefendSettings(
            Threat("Linf", 0.1),
            PreprocessorSettings(method=method, training=training),  # type: ignore[arg-type]
            compare=("identity",),
            head=HeadSettings(epochs=8),
            attacks=("pgd-2",),
            audit_examples=0,
            curve_images=0,
        )
        defend(load_encoder(EncoderSettings(str(foundation))), small, settings, folder / name)
    return [folder / "one", folder / "two"]
