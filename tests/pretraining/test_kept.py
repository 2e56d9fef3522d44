"""Kept epochs are the encoder as it was then, and keeping them changes nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heirloom import EncoderSettings, InputError, load_encoder
from heirloom.data.labelled import ImageSource
from heirloom.pretraining.kept import kept_epochs
from heirloom.pretraining.phases import pretrain
from heirloom.runtime.files import read_tensors
from tests.pretraining.test_phases import SETTINGS, THREAT, assert_equal, weights


def named(path: Path, part: str) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value for name, value in read_tensors(path.with_suffix(".safetensors"))[0].items()
    }


def test_kept_epochs_are_the_encoder_of_that_epoch(digits: ImageSource, tmp_path: Path) -> None:
    settings = replace(SETTINGS, adversarial_epochs=2, keep_epochs=(1, 2))
    images = digits.train.limit(200)
    pretrain(images, THREAT, settings, tmp_path / "kept")
    pretrain(images, THREAT, replace(settings, keep_epochs=()), tmp_path / "plain")
    assert_equal(weights(tmp_path / "kept"), weights(tmp_path / "plain"))
    found = kept_epochs(tmp_path / "kept")
    assert [(k.phase, k.epoch) for k in found] == [("clean", 1), ("adversarial", 1), ("adversarial", 2)]
    assert kept_epochs(tmp_path / "plain") == []
    best = read_tensors(tmp_path / "kept" / "best" / "clean.safetensors")[0]
    kept = found[0].folder
    assert_equal({**named(kept / "encoder" / "model", "encoder"), **named(kept / "head", "head")}, best)
    first, last = (load_encoder(EncoderSettings(str(kept.folder / "encoder"))) for kept in found[1:])
    x = images.images[:4]
    assert not torch.equal(first(x), last(x))


def test_epochs_that_never_come_are_refused() -> None:
    for wrong in ((0,), (3,)):
        with pytest.raises(InputError, match="keep_epochs must be epochs of a phase, from 1 to 2"):
            replace(SETTINGS, keep_epochs=wrong)
