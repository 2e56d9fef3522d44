"""The linear classifier that a checkpoint of Transformers has on the features as they are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from heirloom.models.encoder import FrozenEncoder, load_encoder
from heirloom.models.transformers.read_through import ReadThrough
from heirloom.runtime.errors import InputError

_KNOWN: WeakKeyDictionary[FrozenEncoder, nn.Linear | None] = WeakKeyDictionary()  # loading one takes a while


def linear_classifier(encoder: FrozenEncoder) -> nn.Linear | None:
    """The layer (D, classes) that makes the checkpoint's own logits of what ``encoder`` gives (N, D), frozen.

    None where the checkpoint has no image classifier, or one that is not a linear layer on these features: tried on two
    images. What an encoder is read as its logits or beside texts for is none.
    """
    if encoder not in _KNOWN:
        _KNOWN[encoder] = _found(encoder)
    return _KNOWN[encoder]


def _found(encoder: FrozenEncoder) -> nn.Linear | None:
    if encoder.reading.kind == "classifier" and not encoder.is_sharded:
        return next(_frozen(part) for part in encoder.backbone.modules() if isinstance(part, ReadThrough))
    config = getattr(encoder.backbone, "config", None)
    said = getattr(config, "architectures", None) or ()
    is_classifier = any("ForImageClassification" in name for name in said)
    other = encoder.is_sharded or encoder.reading.kind in ("logits", "image-text")
    if other or not is_classifier:
        return None
    try:
        whole = load_encoder(
            replace(encoder.settings, pooling="logits"), trust_remote_code=encoder.trusts_remote_code
        )
    except InputError:  # without weights of its classifier
        return None
    return _tried(encoder, whole)


@torch.no_grad()
def _tried(encoder: FrozenEncoder, whole: FrozenEncoder) -> nn.Linear | None:
    """The linear layer of ``whole`` that says its logits from the features of ``encoder``."""
    device = next(encoder.parameters()).device
    side = encoder.processing.size or (224, 224)
    x = torch.rand(2, encoder.channels or 3, *side, generator=torch.Generator().manual_seed(0)).to(device)
    features, logits = encoder(x), whole.to(device)(x)
    backbone: Any = whole.backbone
    for layer in backbone.modules():
        fits = isinstance(layer, nn.Linear) and (layer.in_features, layer.out_features) == (
            features.shape[1],
            logits.shape[1],
        )
        if fits and torch.allclose(layer(features), logits, rtol=1e-3, atol=1e-4):
            return _frozen(layer)
    return None


@torch.no_grad()
def _frozen(layer: nn.Linear) -> nn.Linear:
    """A copy with a bias, on the CPU."""
    head: nn.Linear = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features)
    head.weight.copy_(layer.weight.cpu())
    head.bias.copy_(layer.bias.cpu() if layer.bias is not None else torch.zeros(1))
    return head.requires_grad_(False).eval()
