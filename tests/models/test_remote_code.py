"""Code that lies beside a checkpoint runs where the user said so, and nowhere else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.cli import app, common
from heirloom.defence.controls import own_classifier
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.runtime.files import write_tensors
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner
from tests.models.zoo import ZOO, build

CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class BlotConfig(PretrainedConfig):
    model_type = "blot"


class BlotModel(PreTrainedModel):
    config_class = BlotConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(3, 5)
        self.post_init()

    def forward(self, pixel_values, **_):
        tokens = self.layer(pixel_values.mean((2, 3)))
        return BaseModelOutputWithPooling(last_hidden_state=tokens[:, None], pooler_output=tokens)
"""


@pytest.fixture
def blot(tmp_path: Path) -> Path:
    folder = tmp_path / "blot"
    folder.mkdir()
    (folder / "blot.py").write_text(CODE)
    places = {"AutoConfig": "blot.BlotConfig", "AutoModel": "blot.BlotModel"}
    config = {"model_type": "blot", "architectures": ["BlotModel"], "auto_map": places, "num_channels": 3}
    (folder / "config.json").write_text(json.dumps(config))
    colours = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    write_tensors(
        folder / "model.safetensors", {"layer.weight": torch.eye(5, 3), "layer.bias": torch.zeros(5)}
    )
    return folder


def test_an_encoder_of_foreign_code_is_asked_for(blot: Path) -> None:
    with pytest.raises(InputError, match="trust_remote_code"):
        load_encoder(EncoderSettings(str(blot)))
    encoder = load_encoder(EncoderSettings(str(blot)), trust_remote_code=True)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(encoder(x)[:, :3], 2 * x.mean((2, 3)) - 1, atol=1e-6)


def test_whoever_loads_an_encoder_again_trusts_as_the_user_did(blot: Path, tmp_path: Path) -> None:
    """A checkpoint that torch knows may bring code all the same: it is not run where nobody said so."""
    animal, names = ZOO["vit classifier"], dict(enumerate("abcd"))
    build(replace(animal, settings={**animal.settings, "id2label": names}), tmp_path / "vit")
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "ran.Ran"}
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    (tmp_path / "vit" / "ran.py").write_text("raise SystemExit('it ran')")
    encoder = load_encoder(EncoderSettings(str(tmp_path / "vit")))
    found = own_classifier(encoder, ("b", "a"))
    assert found is not None
    assert found[0].trusts_remote_code is encoder.trusts_remote_code is False
    assert load_encoder(EncoderSettings(str(blot)), trust_remote_code=True).trusts_remote_code


def test_recipes_hand_the_users_trust_on_to_the_foundation_they_are_given(blot: Path, tmp_path: Path) -> None:
    cell, sources = Cell("digits", "cropd"), {"foundation": str(blot)}
    with pytest.raises(InputError, match="trust_remote_code"):
        Runner("smoke", tmp_path / "out", sources=sources).foundations.of(cell)
    trusting = Runner("smoke", tmp_path / "out", sources=sources, trust_remote_code=True)
    assert trusting.foundations.of(cell)(torch.rand(2, 3, 8, 8)).shape == (2, 5)


def test_trust_is_refused_where_no_foundation_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.run(app, ["reproduce", "inheritance/table-1", "--trust-remote-code"]) == 2
    assert "--trust-remote-code must be left out for inheritance/table-1" in " ".join(
        capsys.readouterr().err.split()
    )
