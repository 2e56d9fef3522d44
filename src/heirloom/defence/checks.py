"""What would stop a defence, found before it begins."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from heirloom.defence.choose import CANDIDATES
from heirloom.defence.controls import own_head
from heirloom.defence.settings import AUTO, DefendSettings
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
    needs_head = "distil" in methods and settings.defence.distil.targets == "head"
    own = own_head(encoder, head, images.train.classes)
    distil = settings.defence.distil
    counted = "distil" not in methods or distil.targets == "head" or distil.count <= len(images.pictures)
    wanted = f"at most as many as the {len(images.pictures)} images that are learned from"
    require(counted, "prototypes", wanted, distil.count)
    wanted = "features for a model without a linear classifier of these classes"
    require(not needs_head or own is not None, "targets", wanted, "head")
    require(head is None or not settings.robust_head, "robust_head", "off for a head that is kept", True)
