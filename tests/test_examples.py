"""The examples run."""

import pytest
import torch

pytest.importorskip("efficientnet_lite_pytorch", reason="a package of the example alone")


def test_the_imagenet_model_by_its_factories(generator: torch.Generator) -> None:
    from heirloom.models.encoder import EncoderSettings, load_encoder

    features = load_encoder(EncoderSettings("examples.imagenet_efficientnet:features"))
    classifier = load_encoder(EncoderSettings("examples.imagenet_efficientnet:imagenette", pooling="logits"))
    x = torch.rand(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        assert features(x).shape == (2, 1280)
        weights = classifier.backbone.network._fc
        logits = weights(features(x))[:, list(classifier.backbone.classes)]
        assert torch.allclose(classifier(x), logits, atol=1e-4)
