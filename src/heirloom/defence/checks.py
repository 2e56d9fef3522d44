"""What would stop a defence, found before it begins."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from heirloom.defence.choose import CANDIDATES
from heirloom.defence.controls import own_head
from heirloom.defence.settings import AUTO, DefendSettings, DistilSettings
from heirloom.defence.shares import Shares
from heirloom.defence.train_preprocessor import fresh_preprocessor
from heirloom.models.defended import Defended, check_whole
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.sharded import check_shardable
from heirloom.runtime.errors import require


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
        wanted = "features for a model without a linear classifier of these classes"
        require(own_head(encoder, head, images.train.classes) is not None, "targets", wanted, "head")
        return
    wanted = f"at most as many as the {len(images.pictures)} images that are learned from"
    require(distil.count <= len(images.pictures), "prototypes", wanted, distil.count)
