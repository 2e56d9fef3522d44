"""The whitening filters whiten, the blocks begin as the identity, and a pre-trained one is loaded as it was."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.data.images import load_images
from heirloom.data.labelled import labelled
from heirloom.networks.airbench import FLATTENING, Airbench, PooledBlock
from heirloom.networks.backbones import BackboneSettings, build_backbone, load_backbone
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings


def test_the_first_outputs_have_unit_variance_and_no_correlation() -> None:
    images = torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(0)).cumsum(3)
    network = Airbench(8)
    network.whiten(images)
    outputs = network.stem(images).transpose(0, 1).flatten(1)
    found = torch.cov(outputs[:12])
    assert torch.allclose(found, torch.eye(12), atol=20 * FLATTENING)
    assert torch.allclose(outputs[12:], -outputs[:12], atol=1e-5)


def test_the_first_channels_of_a_block_begin_as_the_identity() -> None:
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(PooledBlock(4, 6).conv1(x)[:, :4], x)


def test_a_pretrained_one_keeps_its_filters_and_is_loaded_as_it_was(tmp_path: Path) -> None:
    digits = load_images("digits", limit=200).train
    larger = digits.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    data = labelled(larger, digits.labels, digits.classes)
    training = TrainingSettings(batch_size=64, learning_rate=0.1)
    settings = PretrainSettings(
        network="airbench-w4", clean_epochs=1, adversarial_epochs=0, validation=0.1, training=training
    )
    made = pretrain(data, Threat("Linf", 8 / 255), settings, tmp_path)
    fresh = Airbench(4, 1)
    fresh.whiten((data.split(0.1, seed=0)[0].images - made.encoder.mean) / made.encoder.std)
    assert torch.equal(made.encoder.body.stem.weight, fresh.stem.weight)  # type: ignore[union-attr, arg-type]
    x = torch.rand(3, 1, 16, 16)
    loaded = load_backbone(tmp_path / "encoder")  # in the other memory layout
    assert torch.allclose(loaded(x), made.encoder.eval()(x), atol=1e-5)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="image_size must be at least 9 for airbench"):
        build_backbone(BackboneSettings("airbench", 1, 8))
