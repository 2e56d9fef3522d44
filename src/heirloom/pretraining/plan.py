"""The plan of ``pretrain``, from two real training steps of each phase."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import torch

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.preflight import TIMED, Plan, Stage, cost_of, measuring
from heirloom.pretraining.fresh import fresh_network
from heirloom.pretraining.optimisation import step_of
from heirloom.pretraining.phases import check_before_training
from heirloom.pretraining.settings import PretrainSettings
from heirloom.threat import Threat
from heirloom.training.loop import train
from heirloom.training.timing import step_seconds


def plan_of_pretraining(
    data: ImageSource, threat: Threat, settings: PretrainSettings, attacks: tuple[str, ...]
) -> Plan:
    """The plan of :func:`heirloom.pretraining.job.pretrain_job`; validation after the epochs is left out.

    Raises:
        InputError: a network that does not take the images.
    """
    check_before_training(data, settings)
    count = len(data.train) - round(settings.validation * len(data.train))
    batch = min(settings.training.batch_size, len(data.train))
    stages = list[Stage]()
    for phase in settings.phases:
        (a_step,) = step_seconds(partial(_second_of_two, data, threat, settings, phase), batch)
        stages.append(Stage(f"{phase} phase", settings.epochs_of(phase) * count / batch * a_step))
    few = data.train.select(torch.arange(min(TIMED, len(data.train)))).images
    cost = cost_of(fresh_network(data.train, settings).eval(), few, device=settings.training.device)
    if settings.method != "contrastive":
        stages += measuring(
            cost, len(data.test), attacks, classes=len(data.train.classes), threat=threat, label="evaluate: "
        )
    return Plan(tuple(stages), cost.memory(settings.training.batch_size))


def _second_of_two(
    data: ImageSource, threat: Threat, settings: PretrainSettings, phase: str, batch: int
) -> list[float]:
    """Seconds of the second of two steps of so many images."""
    few = data.train.select(torch.arange(min(len(data.train), 2 * batch)))
    ends: list[float] = []
    train(
        fresh_network(data.train, settings),
        few,
        step_of(settings, threat if phase == "adversarial" else None),
        replace(settings.training, epochs=2, steps=2, batch_size=batch),
        report=lambda done, total, losses: ends.append(time.perf_counter()),
    )
    return [ends[1] - ends[0]]
