"""What would stop a defence, found before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from heirloom.defence.choose import CANDIDATES
from heirloom.defence.controls import own_head
from heirloom.defence.settings import AUTO, DefendSettings, DistilSettings
from heirloom.defence.shares import Shares
from heirloom.defence.train_preprocessor import fresh_preprocessor
from heirloom.models.defended import Defended, check_whole
from heirloom.models.encoder import FrozenEncoder, load_encoder
from heirloom.models.sharded import check_shardable
from heirloom.runtime.errors import InputError, reject, require


def check_before_work(
    encoder: FrozenEncoder, images: Shares, settings: DefendSettings, head: nn.Module | None
) -> None:
    """Names, sizes and the foundation model's output, in a second rather than after an hour."""
    if settings.fsdp:
        check_shardable(encoder.backbone)
    few = images.train.select(torch.arange(min(2, len(images.train))))
    first = few.images.to(settings.defence.training.device)
    whole = Defended(nn.Identity(), encoder, head or nn.Identity()).to(first.device)
    check_whole(whole, first, len(images.train.classes) if head is not None else None)
    trained = CANDIDATES if settings.defence.method == AUTO else ()
    methods = dict.fromkeys((*settings.methods, *trained))
    for method in methods:
        fresh_preprocessor(images.pictures, replace(settings.defence, method=method), encoder)
    if "distil" in methods:
        _check_targets(encoder, images, settings.defence.distil, head)
    require(head is None or not settings.robust_head, "robust_head", "off for a head that is kept", True)


def _check_targets(
    encoder: FrozenEncoder, images: Shares, distil: DistilSettings, head: nn.Module | None
) -> None:
    """That there is what the student is to learn."""
    if distil.targets == "head":
        known = images.train.classes
        if own_head(encoder, head, known) is None:
            hint = " on its features (pooling classifier has one)" if _reads_others(encoder, known) else ""
            reject(
                "targets", f"features for a model without a linear classifier of these classes{hint}", "head"
            )
        return
    wanted = f"at most as many as the {len(images.pictures)} images that are learned from"
    require(distil.count <= len(images.pictures), "prototypes", wanted, distil.count)


def _reads_others(encoder: FrozenEncoder, classes: Sequence[str]) -> bool:
    """Whether the checkpoint has a linear classifier of the classes, on other features than are read of it."""
    if not hasattr(encoder.backbone, "config") or encoder.settings.pooling == "classifier":
        return False
    settings = replace(encoder.settings, pooling="classifier")
    try:
        found = load_encoder(settings, trust_remote_code=encoder.trusts_remote_code)
    except InputError:
        return False
    return own_head(found, None, classes) is not None
