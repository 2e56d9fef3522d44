"""Foundation models as one deterministic, differentiable function of [0, 1] pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heirloom import InputError
from heirloom.models.encoder import EncoderSettings, load_encoder

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 4,
}


def _configs() -> dict[str, Any]:
    import transformers as t

    return {
        "vit_mae": (t.ViTMAEConfig(**SMALL), t.ViTMAEModel, 24),
        "vit": (t.ViTConfig(**SMALL), t.ViTModel, 24),
        "dinov2": (t.Dinov2Config(**SMALL), t.Dinov2Model, 24),
        "clip": (t.CLIPVisionConfig(**SMALL), t.CLIPVisionModel, 24),
        "resnet": (
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
            t.ResNetModel,
            16,
        ),
        "convnext": (
            t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2, image_size=16),
            t.ConvNextModel,
            16,
        ),
    }


PROCESSOR = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
KINDS = ["vit_mae", "vit", "dinov2", "clip", "resnet", "convnext"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for kind, (config, model, _) in _configs().items():
            folders[kind] = tmp_path_factory.mktemp(kind)
            model(config).save_pretrained(folders[kind])
            size = {"do_resize": True, "size": {"height": 16, "width": 16}}
            (folders[kind] / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **size}))
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_deterministic_frozen_and_differentiable(
    kind: str, checkpoints: dict[str, Path], generator: torch.Generator
) -> None:
    encoder = load_encoder(EncoderSettings(str(checkpoints[kind])))
    x = torch.rand(3, 3, 12, 12, generator=generator, requires_grad=True)
    features = encoder.train()(x)
    assert features.shape == (3, _configs()[kind][2])
    assert torch.equal(features, encoder(x))
    (gradient,) = torch.autograd.grad(features.square().sum(), x)
    assert gradient.abs().sum() > 0
    assert not any(p.requires_grad for p in encoder.parameters())
    # one image's features do not depend on its batch (no statistics, no shared mask)
    assert torch.allclose(encoder(x[:1]), features[:1], atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "vit_mae"])
def test_features_are_those_of_transformers(
    kind: str, checkpoints: dict[str, Path], generator: torch.Generator
) -> None:
    encoder = load_encoder(EncoderSettings(str(checkpoints[kind]), pooling="pooler"))
    model = _configs()[kind][1].from_pretrained(checkpoints[kind]).eval()
    x = torch.rand(2, 3, 16, 16, generator=generator)
    mean, std = (torch.tensor(PROCESSOR[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    expected = model((x - mean) / std).pooler_output.flatten(1)
    assert torch.allclose(encoder(x), expected, atol=1e-5)


def test_vit_mae_sees_all_patches_in_order(checkpoints: dict[str, Path], generator: torch.Generator) -> None:
    encoder = load_encoder(EncoderSettings(str(checkpoints["vit_mae"]), normalisation="none"))
    model: Any = encoder.backbone
    x = torch.rand(2, 3, 16, 16, generator=generator)
    # straight: patches with their positions, the class token in front, through the layers
    embeddings = model.embeddings
    tokens = embeddings.patch_embeddings(x) + embeddings.position_embeddings[:, 1:]
    token = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(2, -1, -1)
    hidden = torch.cat([token, tokens], 1)
    for layer in model.layers if hasattr(model, "layers") else model.encoder.layer:
        hidden = layer(hidden)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    expected = model.layernorm(hidden)[:, 1:].mean(1)
    assert torch.allclose(encoder(x), expected, atol=1e-5)


def test_each_pooling_reads_other_features(checkpoints: dict[str, Path], generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 16, 16, generator=generator)
    found = {
        pooling: load_encoder(EncoderSettings(str(checkpoints["vit"]), pooling=pooling))(x)
        for pooling in ("auto", "cls", "mean", "pooler")
    }
    assert torch.equal(found["auto"], found["pooler"])
    assert not torch.allclose(found["cls"], found["mean"])
    with pytest.raises(InputError, match="pooling must be cls or mean"):
        load_encoder(EncoderSettings(str(checkpoints["vit_mae"]), pooling="pooler"))(x)
    with pytest.raises(InputError, match="pooling must be mean or pooler"):
        load_encoder(EncoderSettings(str(checkpoints["resnet"]), pooling="cls"))(x)


def test_grey_images_and_small_ones_fit_a_colour_model(
    checkpoints: dict[str, Path], generator: torch.Generator
) -> None:
    encoder = load_encoder(EncoderSettings(str(checkpoints["vit"])))
    grey = torch.rand(2, 1, 8, 8, generator=generator)
    assert torch.equal(encoder(grey), encoder(grey.repeat(1, 3, 1, 1)))


def test_a_checkpoint_without_normalisation_constants_is_not_guessed(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((checkpoints["vit"] / file).read_bytes())
    with pytest.raises(InputError, match=r"normalisation must be given .*, got auto"):
        load_encoder(EncoderSettings(str(tmp_path)))
    assert load_encoder(EncoderSettings(str(tmp_path), normalisation="imagenet")).mean[0, 0] == pytest.approx(
        0.485
    )


def build_module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU())


def test_any_module_by_its_factory(generator: torch.Generator) -> None:
    encoder = load_encoder(EncoderSettings("tests.models.test_encoder:build_module"))
    features = encoder(torch.rand(2, 1, 8, 8, generator=generator))
    assert features.shape == (2, 6)  # a feature map is averaged over its positions
    assert (
        encoder.fingerprint()
        == load_encoder(EncoderSettings("tests.models.test_encoder:build_module")).fingerprint()
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("tests.models.test_encoder:nothing", "importable package.module:factory"),
        ("no_such_package:factory", "importable package.module:factory"),
        ("tests.models.test_encoder:KINDS", "can be called"),
        ("builtins:dict", "returns an nn.Module"),
        ("./no-such-folder", "could not be loaded"),
    ],
)
def test_unknown_models_are_refused_in_one_sentence(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        load_encoder(EncoderSettings(source))
    assert "\n" not in str(error.value)
