"""Fine-tuning a given foundation with labels, the rivals of CRoPD's tables that touch the model: by low-rank adapters
(Tables 1 and 2), or all of its weights, cleanly or under attack (Tables 1, 8 and 11).

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, by peft (extra ``[lora]``). The paper does
not tell rank, layers or training; here: rank 8 on every linear layer and convolution, cross-entropy with a fresh linear
head, on clean images or (ours) on those of the attack that trains preprocessors. All weights: the same loss, head and
attack (Madry et al., ICLR 2018); running statistics of batch normalisation stay the frozen model's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.labelled import LabelledImages
from heirloom.defence.inner import strongest_nearby
from heirloom.heads.adversarial import mixed_step
from heirloom.heads.linear import HEAD_SCHEDULE, HeadSettings, extract_features
from heirloom.models.encoder import FrozenEncoder
from heirloom.runtime.devices import autocast_as
from heirloom.runtime.errors import InputError
from heirloom.runtime.identity import module_facts
from heirloom.threat import Threat
from heirloom.training.loop import Losses, Step, TrainingSettings, train, unwrapped

RANK = 8


def fine_tuned(
    encoder: FrozenEncoder,
    data: LabelledImages,
    settings: TrainingSettings,
    *,
    low_rank: bool = False,
    threat: Threat | None = None,
    table_7: HeadSettings | None = None,
    checkpoint: Path | None = None,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> FrozenEncoder:
    """A copy of ``encoder`` that has learned from labels.

    Args:
        low_rank: each layer learns an update of rank 8, merged into plain weights; else all weights learn.
        threat: train on attacked images (one step of 1.25 eps from a random start); None: on clean ones.
        table_7: as the paper does: these epochs, batches, rate and its three falls, and under ``threat`` clean and
            PGD-10 examples in equal parts; of ``settings`` stay seed, device and precision.
        checkpoint: goes on from there where it exists.

    Raises:
        InputError: with ``low_rank``, peft is absent, or the model has no layer that an adapter fits.
    """
    tuned = copy.deepcopy(encoder)
    tuner = _with_adapters(tuned) if low_rank else None
    if tuner is None:
        tuned.backbone.requires_grad_(True)
    how: dict[str, Any] = {"tuned": "all weights"} if tuner is None else {"rank": RANK}
    options: dict[str, Any] = {"checkpoint": checkpoint, "report": report}
    if table_7 is not None:
        how["table 7"] = asdict(table_7)
        settings, options["schedule"] = _as_in(table_7, settings), HEAD_SCHEDULE
    step = _step(threat, settings) if threat is None or table_7 is None else mixed_step(threat, table_7)
    options["facts"] = {"frozen": module_facts(encoder), **_met(threat), **how}
    _learn(tuned, encoder, data, settings, step, **options)
    if tuner is not None:
        tuned.backbone = tuner.cpu().merge_and_unload()
    tuned.backbone.eval().requires_grad_(False)
    return tuned.cpu()


def _as_in(table_7: HeadSettings, settings: TrainingSettings) -> TrainingSettings:
    own = {name: getattr(table_7, name) for name in ("epochs", "batch_size", "learning_rate", "weight_decay")}
    return replace(settings, **own, betas=(0.9, 0.999))


def _met(threat: Threat | None) -> dict[str, Any]:
    return {"threat": asdict(threat) if threat is not None else None}


def _learn(
    tuned: FrozenEncoder,
    frozen: FrozenEncoder,
    data: LabelledImages,
    settings: TrainingSettings,
    step: Step,
    **options: Any,
) -> None:
    """Train what may be trained of ``tuned`` in place, behind it a fresh head on features as those of ``frozen``."""
    classes = len(data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        few = extract_features(frozen, data.select(torch.arange(min(64, len(data)))), device=settings.device)
        model = nn.Sequential(tuned, _Standardised(few), nn.Linear(few.shape[1], classes))
    train(model, data, step, settings, resume=True, **options)


class _Standardised(nn.Module):
    """Features by one mean and scale, so that a fresh head learns as fast behind any model."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("scale", features.std().clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


def _with_adapters(encoder: FrozenEncoder) -> Any:
    """Put fresh adapters into ``encoder``'s layers in place; what merges them again."""
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise InputError("foundation", "lora only with heirloom-robust[lora] installed", str(error)) from None
    fitting = (nn.Linear, nn.Conv2d)
    names = [name for name, part in encoder.backbone.named_modules() if isinstance(part, fitting) and name]
    if not names:
        raise InputError("foundation", "a model with linear layers or convolutions for lora", "none")
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LoraModel(encoder.backbone, config, "default")


def _step(threat: Threat | None, settings: TrainingSettings) -> Step:
    def each(logits: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(logits, y, reduction="none")

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        if threat is not None:
            with autocast_as(settings.mixed_precision, x.device):
                x = strongest_nearby(unwrapped(model), x, y, each, threat, 1, generator)
        return {"loss": each(model(x).float(), y).mean()}

    return step
