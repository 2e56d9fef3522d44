"""Heads on frozen encoders: the encoder is never touched, the adversarial head earns its name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import InputError, Threat
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.evaluation.verdicts import evaluate
from heirloom.heads.linear import HeadSettings
from heirloom.heads.probe import ProbeSettings, check_encoder, probe, with_head
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings

THREAT = Threat("Linf", 0.15)
SETTINGS = ProbeSettings(
    head=HeadSettings(epochs=20, batch_size=128),
    adversarial=TrainingSettings(epochs=4, batch_size=64, learning_rate=0.05, weight_decay=5e-4),
    attack=InnerAttack(steps=4),
    validation=0.15,
    validation_images=100,
)


class Pixels(nn.Module):
    """Features that are the pixels and a BatchNorm whose statistics a careless probe would move."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.flatten(1))


def pixels() -> FrozenEncoder:
    return FrozenEncoder(Pixels(), EncoderSettings("pixels"))


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_images("digits", limit=700).train


def test_the_adversarial_head_is_more_robust_and_the_encoder_untouched(
    digits: LabelledImages, tmp_path: Path
) -> None:
    encoder = pixels()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    heads = probe(encoder, digits, THREAT, SETTINGS, tmp_path)
    assert heads.adversarial is not None
    test = load_images("digits").test
    pair = (test.images, test.labels)
    clean, adversarial = (
        evaluate(with_head(encoder, head), pair, THREAT, ("pgd-10",)).correct
        for head in (heads.clean, heads.adversarial)
    )
    assert clean["clean"].double().mean() > 0.85  # logistic regression on 600 digits: about .9
    assert adversarial["pgd-10"].sum() > 1.2 * clean["pgd-10"].sum()
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert "norm" not in "".join(str(k) for k in heads.adversarial.state_dict())


def test_only_the_attacks_passes_are_in_the_asked_type(digits: LabelledImages, tmp_path: Path) -> None:
    encoder, seen = pixels(), []
    encoder.backbone.register_forward_pre_hook(
        lambda _, given: seen.append((given[0].dtype, given[0].requires_grad))
    )
    settings = replace(SETTINGS, adversarial=replace(SETTINGS.adversarial, mixed_precision="bf16"))
    test = load_images("digits").test
    found = [
        probe(encoder, digits, THREAT, chosen, tmp_path / name).adversarial
        for name, chosen in (("bf16", settings), ("whole", SETTINGS))
    ]
    halved = [asked for asked in seen if asked[0] == torch.bfloat16]
    assert any(followed for _, followed in halved)
    in_bf16, whole = (
        evaluate(with_head(encoder, head), (test.images, test.labels), THREAT, ("pgd-10",)).correct["pgd-10"]
        for head in found
        if head is not None
    )
    # about 450 images, of which rounding moves few: four deviations of a paired difference of a tenth
    assert abs(int(in_bf16.sum()) - int(whole.sum())) <= 4 * (len(whole) / 10) ** 0.5
    with pytest.raises(InputError, match="passes"):
        probe(encoder, digits, THREAT, SETTINGS, tmp_path / "bf16", resume=True)


def test_a_cut_off_probe_goes_on_exactly(digits: LabelledImages, tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        head=replace(SETTINGS.head, epochs=2),
        adversarial=replace(SETTINGS.adversarial, epochs=2, checkpoint_seconds=0.0),
    )
    whole = probe(pixels(), digits, THREAT, settings, tmp_path / "whole").adversarial

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if done == total // 2 + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(pixels(), digits, THREAT, settings, tmp_path / "cut", report=stop)
    resumed = probe(pixels(), digits, THREAT, settings, tmp_path / "cut", resume=True).adversarial
    assert whole is not None
    assert resumed is not None
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_clean_probe_alone_needs_no_attack(digits: LabelledImages, tmp_path: Path) -> None:
    heads = probe(pixels(), digits, None, replace(SETTINGS, head=HeadSettings(epochs=1)), tmp_path)
    assert heads.adversarial is None
    assert not list(tmp_path.iterdir())


def test_encoders_of_every_kind_can_be_probed(digits: LabelledImages, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_channels=1,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    save_backbone(tmp_path / "own", build_backbone(BackboneSettings("resnet8", 1, 8)))
    sources = (tmp_path / "vit", tmp_path / "own")
    sizes = [
        check_encoder(load_encoder(EncoderSettings(str(source), normalisation="none")), digits)
        for source in sources
    ]
    assert sizes == [12, 64]


def test_an_encoder_that_cannot_take_the_images_is_one_sentence(digits: LabelledImages) -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv2d(x, torch.ones(1, 3, 3, 3, device=x.device))

    with pytest.raises(InputError, match=r"encoder must be one for images of shape \(1, 8, 8\)"):
        check_encoder(FrozenEncoder(Wrong(), EncoderSettings("wrong")), digits)
