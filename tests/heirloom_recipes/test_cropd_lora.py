"""Low-rank fine-tuning: what moves, what stays, and that what comes out is a plain model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

from heirloom import InputError, Threat
from heirloom.data.labelled import ImageSource
from heirloom.heads.linear import HeadSettings
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.cropd.bound import measure_bound
from heirloom_recipes.cropd.lora import RANK, fine_tuned
from heirloom_recipes.cropd.paper import ADVERSARIAL, ENCODER_ONLY, TABLES, TUNED, TUNED_ROCL, Cell
from heirloom_recipes.cropd.run import Runner

TRAINING = TrainingSettings(epochs=1, batch_size=32, learning_rate=3e-3, checkpoint_seconds=0.0)


@pytest.fixture(params=["resnet", "vit"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> FrozenEncoder:
    folder = tmp_path / "model"
    if request.param == "resnet":
        save_backbone(folder, build_backbone(BackboneSettings("resnet8", 1, 8)))
        return load_encoder(EncoderSettings(str(folder)))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(folder)
    return load_encoder(EncoderSettings(str(folder), normalisation="half"))


def test_all_of_a_given_model_is_fine_tuned_where_it_must_meet_attacks(
    digits: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    runner = Runner("smoke", tmp_path / "out", sources={"foundation": str(foundation)})
    runner.loaded["digits"] = ImageSource("digits", digits.train.limit(192), digits.test.limit(8))
    frozen = runner.foundations.of(Cell("digits", "identity"))
    for name in (TUNED, ADVERSARIAL):
        cell = Cell("digits", "identity", foundation=name)
        assert runner.covers(cell)
        assert runner.foundations.spent(cell) == {"foundation": None, "fine-tuning": None}
        tuned = runner.foundations.of(cell)
        assert not any(p.requires_grad for p in tuned.parameters())
        before, after = dict(frozen.backbone.named_parameters()), dict(tuned.backbone.named_parameters())
        assert [n for n in before if torch.equal(before[n], after[n])] == []
        assert torch.equal(runner.foundations.of(cell)(digits.test.images[:4]), tuned(digits.test.images[:4]))
        assert (runner.foundations.spent(cell)["fine-tuning"] or 0) > 0
    clean, attacked = (
        runner.foundations.of(Cell("digits", "identity", foundation=n)) for n in (TUNED, ADVERSARIAL)
    )
    x, own = digits.test.images[:4], runner.foundations
    assert not torch.equal(clean(x), attacked(x))
    alone, rocl = (Cell("digits", "identity", foundation=n) for n in (ENCODER_ONLY, TUNED_ROCL))
    assert not own.is_tuned(alone)  # Table 8: no foundation is in it
    assert own.name_of(alone) != own.name_of(replace(alone, foundation=ADVERSARIAL))
    assert own.is_tuned(rocl)
    table_7 = HeadSettings(epochs=1, batch_size=16, learning_rate=1e-4)
    data, threat = runner.loaded["digits"].train.limit(32), Threat("Linf", 0.1)
    made = [fine_tuned(frozen, data, TRAINING, threat=t, table_7=table_7)(x) for t in (None, threat)]
    assert not torch.equal(made[0], made[1])


def test_a_given_foundation_that_does_not_take_the_images_is_refused_in_one_sentence(
    digits: ImageSource, tmp_path: Path
) -> None:
    colours = "tests.cli.factories:of_other_images"
    runner = Runner("smoke", tmp_path / "out", sources={"foundation": colours})
    runner.loaded["digits"] = ImageSource("digits", digits.train.limit(8), digits.test.limit(8))
    with pytest.raises(InputError, match="foundation must be one that takes images of 1 x 8 x 8"):
        runner.foundations.of(Cell("digits", "identity"))
    with pytest.raises(InputError, match="model must be one that takes images of 1 x 8 x 8"):
        measure_bound(colours, tmp_path / "bound", epochs=1)
    assert not (tmp_path / "bound").exists()


def test_a_given_foundation_leaves_no_row_out_for_its_sake(tmp_path: Path) -> None:
    runner = Runner("paper", tmp_path)
    left = [c for n in ("table-8", "table-10") for c in TABLES[n] if not runner.covers(c)]
    assert left == []


@pytest.mark.parametrize("threat", [None, Threat("Linf", 0.1)], ids=["clean", "under attack"])
def test_an_update_of_low_rank_is_learned_and_merged(
    encoder: FrozenEncoder, threat: Threat | None, digits: ImageSource, tmp_path: Path
) -> None:
    data, before = digits.train.limit(96), {k: v.clone() for k, v in encoder.state_dict().items()}
    place = tmp_path / "tuned.safetensors"
    tuned = fine_tuned(encoder, data, TRAINING, low_rank=True, threat=threat, checkpoint=place)
    assert all(
        torch.equal(before[name], value) for name, value in encoder.state_dict().items()
    )  # a copy learned
    after = tuned.state_dict()
    assert after.keys() == before.keys()
    assert not any(p.requires_grad for p in tuned.parameters())
    changes = {name: after[name] - before[name] for name in before if after[name].is_floating_point()}
    moved = {name: change.flatten(1) for name, change in changes.items() if change.abs().max() > 0}
    assert moved
    for name, change in moved.items():
        assert name.endswith("weight")
        assert before[name].ndim in (2, 4)  # a matrix or a filter: no bias, no norm, no running statistic
        if before[name].ndim == 2:
            assert torch.linalg.matrix_rank(change, rtol=1e-4) <= RANK
    again = fine_tuned(
        encoder, data, TRAINING, low_rank=True, threat=threat, checkpoint=place
    )  # all of it is read again
    x = data.images[:4]
    assert torch.equal(again(x), tuned(x))
