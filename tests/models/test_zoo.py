"""Every kind of model: our features are those of the official image processor and model on the same pixels."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional

from heirloom import InputError
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.transformers.classifier import linear_classifier
from tests.models.zoo import SIDE, TEXT, VIT, ZOO, Animal, build


def _official(model: Any, processor: Any, animal: Animal, images: torch.Tensor) -> torch.Tensor:
    if animal.tower is not None:
        model = getattr(model, animal.tower)
    elif "ForImageClassification" in animal.model:
        model = getattr(model, model.base_model_prefix)
    pixels = processor(
        [image.numpy() for image in images], return_tensors="pt", input_data_format="channels_first"
    )
    with torch.no_grad():
        return animal.features(model(pixels["pixel_values"].float()))


@pytest.mark.parametrize("name", ZOO)
def test_features_are_the_official_ones(name: str, tmp_path: Path, generator: torch.Generator) -> None:
    animal = ZOO[name]
    model, processor = build(animal, tmp_path / "hub")
    encoder = load_encoder(EncoderSettings(str(tmp_path / "hub")))
    height, width = encoder.processing.target(24, 24)
    images = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=generator)
    x = (images.float() / 255).requires_grad_()
    features = encoder(x)
    expected = _official(model, processor, animal, images)
    assert features.shape == expected.shape
    assert functional.cosine_similarity(features, expected).min() > 0.9999
    assert torch.allclose(features, expected, atol=1e-3, rtol=1e-2)
    (gradient,) = torch.autograd.grad(features.square().sum(), x)
    assert gradient.abs().amax((1, 2, 3)).min() > 0

    again = load_encoder(EncoderSettings(str(tmp_path / "hub")))
    assert again.fingerprint() == encoder.fingerprint()
    encoder.save(tmp_path / "saved")
    saved = load_encoder(EncoderSettings(str(tmp_path / "saved")))
    assert saved.fingerprint() == encoder.fingerprint()
    with torch.no_grad():
        assert torch.equal(saved(x), encoder(x))


@pytest.mark.parametrize("name", [name for name in ZOO if "ForImageClassification" in ZOO[name].model])
def test_a_linear_classifier_says_the_checkpoints_own_logits(
    name: str, tmp_path: Path, generator: torch.Generator
) -> None:
    build(ZOO[name], tmp_path)
    encoder = load_encoder(EncoderSettings(str(tmp_path)))
    whole = load_encoder(EncoderSettings(str(tmp_path), pooling="logits"))
    head = linear_classifier(encoder)
    x = torch.rand(3, 3, 24, 24, generator=generator)
    if head is None:  # it reads the class token and the patches' mean, say
        assert not any(
            isinstance(part, torch.nn.Linear)
            and part.in_features == encoder(x).shape[1]
            and part.out_features == whole(x).shape[1]
            and torch.allclose(part(encoder(x)), whole(x), atol=1e-4, rtol=1e-3)
            for part in whole.modules()
        )
    else:
        assert torch.allclose(head(encoder(x)), whole(x), atol=1e-4, rtol=1e-3)
        assert not any(part.requires_grad for part in head.parameters())
    assert linear_classifier(whole) is None  # its logits are read already


@pytest.mark.parametrize("name", [name for name in ZOO if "ForImageClassification" in ZOO[name].model])
def test_read_as_its_classifier_reads_it_a_model_has_that_classifier(
    name: str, tmp_path: Path, generator: torch.Generator
) -> None:
    build(ZOO[name], tmp_path / "hub")
    settings = EncoderSettings(str(tmp_path / "hub"), pooling="classifier")
    x, encoder = torch.rand(3, 3, 24, 24, generator=generator), load_encoder(settings)
    whole = load_encoder(replace(settings, pooling="logits"))
    head = linear_classifier(encoder)
    assert head is not None
    assert torch.allclose(head(encoder(x)), whole(x), atol=1e-4, rtol=1e-3)
    encoder.save(tmp_path / "saved")
    saved = load_encoder(replace(settings, source=str(tmp_path / "saved")))
    assert saved.fingerprint() == encoder.fingerprint() != whole.fingerprint()
    for same in (saved, copy.deepcopy(encoder)):
        assert torch.equal(same(x), encoder(x))


def test_what_no_linear_classifier_reads_is_refused(tmp_path: Path) -> None:
    build(ZOO["vit"], tmp_path / "none")
    with pytest.raises(
        InputError, match=r"model must be a checkpoint with a classifier .* got one without classifier"
    ):
        load_encoder(EncoderSettings(str(tmp_path / "none"), pooling="classifier"))
    two = transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**VIT))
    two.save_pretrained(tmp_path / "two")
    with pytest.raises(InputError, match=r"pooling must be another than classifier .* got a deit model"):
        load_encoder(EncoderSettings(str(tmp_path / "two"), pooling="classifier", normalisation="none"))


def test_most_classifiers_are_linear_on_the_features_and_other_models_have_none(tmp_path: Path) -> None:
    found = {}
    for name in ("vit", "vit classifier", "resnet", "convnextv2", "swinv2", "clip"):
        build(ZOO[name], tmp_path / name)
        found[name] = linear_classifier(load_encoder(EncoderSettings(str(tmp_path / name)))) is not None
    has_none = {"vit", "clip"}
    assert found == {name: name not in has_none for name in found}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("deit", 2, 0),
        ("dinov2 registers", 4, 0),
        ("dinov3", 3, 0),
        ("siglip vision", 0, 0),
        ("vit", 1, 0),
        ("ijepa", 0, 0),
        ("yolos", 1, 5),
    ],
)
def test_a_mean_is_over_patches_alone(
    name: str, before: int, after: int, tmp_path: Path, generator: torch.Generator
) -> None:
    model, _ = build(ZOO[name], tmp_path)
    x = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    encoder = load_encoder(EncoderSettings(str(tmp_path), pooling="mean", normalisation="none"))
    hidden = model(x).last_hidden_state
    assert hidden.shape[1] - before - after == 16
    assert torch.allclose(encoder(x), hidden[:, before : hidden.shape[1] - after].mean(1), atol=1e-5)


@pytest.mark.parametrize("name", ["ijepa", "siglip vision"])
def test_a_model_without_a_class_token_has_none_to_take(name: str, tmp_path: Path) -> None:
    build(ZOO[name], tmp_path)
    with pytest.raises(InputError, match=r"pooling must be mean"):
        load_encoder(EncoderSettings(str(tmp_path), pooling="cls"))


def _without(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if part not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def test_weights_that_a_checkpoint_lacks_are_never_read(tmp_path: Path, generator: torch.Generator) -> None:
    build(ZOO["vit"], tmp_path)
    _without(tmp_path, "pooler")
    x = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    assert load_encoder(EncoderSettings(str(tmp_path))).reading.kind == "cls"
    with pytest.raises(InputError, match=r"that pooler needs.*pooler\.dense"):
        load_encoder(EncoderSettings(str(tmp_path), pooling="pooler"))
    state = torch.get_rng_state()
    assert torch.equal(
        load_encoder(EncoderSettings(str(tmp_path)))(x), load_encoder(EncoderSettings(str(tmp_path)))(x)
    )
    assert torch.equal(torch.get_rng_state(), state)  # nor does loading draw from the global state
    _without(tmp_path, "layer.1.attention")
    with pytest.raises(InputError, match="all the weights that its features need"):
        load_encoder(EncoderSettings(str(tmp_path)))


def test_a_fingerprint_covers_how_weights_are_read(tmp_path: Path) -> None:
    build(ZOO["vit"], tmp_path)
    changes: list[dict[str, Any]] = [
        {},
        {"pooling": "cls"},
        {"pooling": "mean"},
        {"normalisation": "half"},
        {"normalisation": "imagenet"},
    ]
    prints = [load_encoder(EncoderSettings(str(tmp_path), **change)).fingerprint() for change in changes]
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    for change in ({"resample": 3}, {"do_flip_channel_order": True}, {"rescale_factor": 1 / 127.5}):
        (tmp_path / "preprocessor_config.json").write_text(
            json.dumps({"heirloom": True, **processor, **change})
        )
        prints.append(load_encoder(EncoderSettings(str(tmp_path))).fingerprint())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    prints.append(load_encoder(EncoderSettings(str(tmp_path))).fingerprint())
    assert len(set(prints)) == len(prints)


def test_models_that_see_no_images_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**TEXT)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="takes images"):
        load_encoder(EncoderSettings(str(tmp_path), normalisation="none"))
