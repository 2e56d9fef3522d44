"""How a phase trains: its step, optimiser and schedule, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from heirloom.pretraining.settings import PretrainSettings
from heirloom.pretraining.steps import contrastive_step, trades_step
from heirloom.threat import Threat
from heirloom.training.loop import Step
from heirloom.training.optimisers import LARS
from heirloom.training.schedules import Schedule, divided_at, warmup_cosine
from heirloom.training.supervised import supervised_step


def step_of(settings: PretrainSettings, threat: Threat | None) -> Step:
    """The training step of a phase: the adversarial one has a ``threat``."""
    if settings.method == "contrastive":
        return contrastive_step(settings.augmentation, threat, settings.attack, settings.contrastive)
    if settings.method == "trades" and threat is not None:
        return trades_step(settings.augmentation, threat, settings.attack, settings.beta)
    return supervised_step(settings.augmentation, threat, settings.attack)


def optimiser_of(settings: PretrainSettings) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """What makes the optimiser of some parameters."""
    rate, decay = settings.training.learning_rate, settings.training.weight_decay
    if settings.optimiser == "lars":
        return lambda parameters: LARS(
            parameters, lr=rate, weight_decay=decay, adapt_vectors=settings.lars_adapts_vectors
        )
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)


def schedule_of(settings: PretrainSettings, epochs: int) -> Schedule:
    """Of the learning rate over a phase of ``epochs``."""
    if settings.schedule == "divided":
        return divided_at([0.5, 0.75])
    return warmup_cosine(min(settings.warmup / epochs, 1.0))
