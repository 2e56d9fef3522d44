"""Low-rank fine-tuning: what moves, what stays, and that what comes out is a plain model."""

from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

from heirloom import Threat
from heirloom.data.labelled import ImageSource
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.cropd.lora import RANK, low_rank_tuned

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


@pytest.mark.parametrize("threat", [None, Threat("Linf", 0.1)], ids=["clean", "under attack"])
def test_an_update_of_low_rank_is_learned_and_merged(
    encoder: FrozenEncoder, threat: Threat | None, digits: ImageSource, tmp_path: Path
) -> None:
    data, before = digits.train.limit(96), {k: v.clone() for k, v in encoder.state_dict().items()}
    place = tmp_path / "tuned.safetensors"
    tuned = low_rank_tuned(encoder, data, TRAINING, threat=threat, checkpoint=place)
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
    again = low_rank_tuned(
        encoder, data, TRAINING, threat=threat, checkpoint=place
    )  # all of it is read again
    x = data.images[:4]
    assert torch.equal(again(x), tuned(x))
