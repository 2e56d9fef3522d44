"""Backbones by name: normalised inside, the same after saving, and frozen encoders for every other command."""

import json
from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.networks.backbones import (
    BackboneSettings,
    build_backbone,
    load_backbone,
    network_names,
    save_backbone,
)

SMALL = BackboneSettings("resnet8", 3, 16, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))


@pytest.mark.parametrize("name", [name for name in network_names() if "34" not in name])
def test_every_name_builds_and_gives_features(name: str) -> None:
    features = 7 if name.startswith("student") else None  # a student says the features of its teacher
    backbone = build_backbone(BackboneSettings(name, 1, 16, features=features)).eval()
    with torch.no_grad():
        assert backbone(torch.rand(2, 1, 16, 16)).shape == (2, backbone.feature_size)


def test_normalisation_is_inside() -> None:
    backbone = build_backbone(SMALL).eval()
    x = torch.rand(2, 3, 16, 16)
    normal = (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.2]).view(3, 1, 1)
    assert torch.allclose(backbone(x), backbone.body(normal), atol=1e-6)


def test_the_seed_decides_the_weights_and_global_randomness_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first, same, other = (build_backbone(SMALL, seed=seed).body.stem.weight for seed in (1, 1, 2))  # type: ignore[union-attr]
    assert torch.equal(first, same)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]
    assert torch.equal(before, torch.random.get_rng_state())


def test_saved_and_loaded_it_is_the_same_and_serves_as_a_frozen_encoder(tmp_path: Path) -> None:
    backbone, x = build_backbone(SMALL).eval(), torch.rand(2, 3, 16, 16)
    save_backbone(tmp_path, backbone, {"method": "supervised"})
    assert torch.equal(load_backbone(tmp_path)(x), backbone(x))
    frozen = load_encoder(EncoderSettings(str(tmp_path)))
    assert torch.equal(frozen.train()(x), backbone(x))
    assert not any(p.requires_grad for p in frozen.parameters())
    assert frozen(torch.rand(2, 1, 20, 20)).shape == (2, 64)  # grey and larger images are fitted to it


def test_a_broken_folder_is_one_sentence(tmp_path: Path) -> None:
    save_backbone(tmp_path, build_backbone(SMALL))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "network": "resnet18"}))
    with pytest.raises(InputError, match="must be a whole encoder, got files that do not fit"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "network": "alexnet"}))
    with pytest.raises(InputError, match="network must be one of resnet18"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="must be an encoder's description"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("base", ["resnet18", "resnet18-7x7", "resnet8", "resnet8-7x7", "resnet10-6x6"])
def test_a_resnet_takes_the_width_of_its_first_stage(base: str, tmp_path: Path) -> None:
    narrow = build_backbone(BackboneSettings(f"{base}-w8"))
    assert narrow.feature_size == 8 * (8 if base.startswith("resnet18") else 4)
    save_backbone(tmp_path, narrow)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_backbone(tmp_path)(x), narrow.eval()(x))


@pytest.mark.parametrize(
    "name",
    ["resnet18-w0", "resnet18-w", "airbench-w0", "vit-tiny-w8", "preact-resnet18-w16", "resnet18-w-8", "w8"],
)
def test_a_width_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"network must be one of .*NAME-wWIDTH.*, got "):
        BackboneSettings(name)
