"""The two mistakes on small models: what must hold whatever the figures are."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError, Threat
from heirloom.data.labelled import ImageSource
from heirloom.defence.job import DefendSettings, defend
from heirloom.defence.settings import PreprocessorSettings
from heirloom.heads.linear import HeadSettings
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.cropd.masks import Masked
from heirloom_recipes.cropd.mistakes import main, measure
from heirloom_recipes.pictures import of_run


def test_masks_keep_half_of_the_patches_and_are_fixed_on_demand() -> None:
    x = torch.ones(5, 1, 8, 8)
    for fixed in (False, True):
        masked = Masked(torch.nn.Identity(), fixed=fixed)
        first, second = masked(x), masked(x)
        assert torch.equal(first.unique(), torch.tensor([0.5, 1.0]))
        assert ((first == 1).sum((1, 2, 3)) == 32).all()
        assert torch.equal(first, second) == fixed
        patches = torch.nn.functional.avg_pool2d(first, 2)
        assert torch.equal(patches.unique(), torch.tensor([0.5, 1.0]))  # whole patches


def test_with_masks_fixed_scoring_again_changes_nothing(
    digits: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    small = ImageSource("digits", digits.train.limit(200), digits.test.limit(20))
    settings = DefendSettings(
        threat=Threat("Linf", 0.15),
        defence=PreprocessorSettings(method="cropd", training=TrainingSettings(epochs=2, batch_size=64)),
        compare=("identity",),
        head=HeadSettings(epochs=3),
        attacks=("fgsm",),
        audit_examples=0,
        curve_images=0,
    )
    defend(load_encoder(EncoderSettings(str(foundation))), small, settings, tmp_path / "run")
    (tmp_path / "run" / "foundation").symlink_to(foundation)
    summary = measure(tmp_path / "run", tmp_path / "out", epochs=3, limit=30)
    found = {(row["defence"], row["attack"]): row["accuracy"]["value"] for row in summary.rows}
    own, again = "PGD-20 x 5, its own number", "PGD-20 x 5, scored again"
    fixed, random = "masked auto-encoder, fixed masks", "masked auto-encoder, random masks"
    assert found[fixed, own] == pytest.approx(found[fixed, again])
    assert found[random, own] <= found[random, again]  # what fell under one mask may stand under another
    assert found[fixed, "strong"] <= found[fixed, own] + 0.04
    mistaken = {row["attack"] for row in summary.rows if row["mistaken"] and row["defence"] == "CRoPD"}
    assert mistaken == {"PGD-20 on the model alone, transferred"}


def test_what_is_no_run_of_the_demo_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["mistakes", "--run", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main()
    assert "--run must be the folder of a finished heirloom demo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="RUN must be the folder of a run of cropd-paintings"):
        of_run(tmp_path)
