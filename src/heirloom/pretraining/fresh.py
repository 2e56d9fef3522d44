"""What is trained on some images, untrained: an encoder of their size, and what stands behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import pass_size
from heirloom.networks.airbench import Airbench
from heirloom.networks.backbones import Backbone, BackboneSettings, build_backbone
from heirloom.pretraining.settings import PretrainSettings
from heirloom.pretraining.steps import Classifier, Projected
from heirloom.runtime.errors import require

NORMALISED_BY = 10_000  # images, from which the mean and deviation are taken
WHITENED_BY = 500  # images


def fresh_network(data: LabelledImages, settings: PretrainSettings) -> nn.Module:
    """What is trained on ``data``, untrained: the encoder with its classifier or its projector."""
    return fresh_networks(data, settings)[1]


def fresh_networks(data: LabelledImages, settings: PretrainSettings) -> tuple[Backbone, nn.Module]:
    """The encoder, and the whole of it and its classifier or projector."""
    encoder = build_backbone(backbone_settings(data, settings), seed=settings.training.seed)
    if isinstance(encoder.body, Airbench):
        few = data.select(torch.arange(min(len(data), WHITENED_BY))).images
        encoder.body.whiten((few - encoder.mean) / encoder.std)
    return encoder, _whole(encoder, len(data.classes), settings)


def _whole(encoder: Backbone, classes: int, settings: PretrainSettings) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed + 1)
        if settings.method == "contrastive":
            return Projected(encoder, encoder.feature_size, hidden=4 * encoder.feature_size)
        return Classifier(encoder, nn.Linear(encoder.feature_size, classes))


def backbone_settings(data: LabelledImages, settings: PretrainSettings) -> BackboneSettings:
    """Of the encoder for these images, with their mean and deviation where the settings want them inside."""
    channels, height, width = data.shape
    require(height == width, "data", "of square images (image_size crops them)", f"{height}x{width}")
    mean = std = None
    if settings.normalise:
        found = _statistics(data)
        mean, std = (tuple(round(float(value), 4) for value in part) for part in found)
    return BackboneSettings(settings.network, channels, height, mean, std)


def _statistics(data: LabelledImages) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over the first images, batch by batch."""
    few = data.select(torch.arange(min(len(data), NORMALISED_BY)))
    total, squares, count = torch.zeros(few.shape[0]).double(), torch.zeros(few.shape[0]).double(), 0
    for part in few.pair[0].split(pass_size(few.pixels.shape)):
        values = part.transpose(0, 1).flatten(1).double()
        total, squares = total + values.sum(1), squares + values.square().sum(1)
        count += values.shape[1]
    mean = total / count
    deviation = ((squares - count * mean.square()) / (count - 1)).clamp_min(0).sqrt()
    return mean, deviation.clamp_min(1e-3)
