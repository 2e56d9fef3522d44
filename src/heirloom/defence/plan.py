"""The plan of ``defend``: every method trained and measured, about how long it takes here, how much memory."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from heirloom.attacks.engine.passes import Passes
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.budget import steps_of
from heirloom.defence.checks import check_before_work
from heirloom.defence.controls import STUDENT_ALONE, student_of, target_head
from heirloom.defence.settings import AUTO, DefendSettings
from heirloom.defence.shares import shares_of
from heirloom.defence.train_preprocessor import fresh_preprocessor
from heirloom.defence.training_plan import Trained, training_stages
from heirloom.evaluation.preflight import (
    CURVE_PASSES,
    TIMED,
    Cost,
    Plan,
    Stage,
    audit_stage,
    cost_of,
    measuring,
)
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.memory import at_most
from heirloom.runtime.choices import DefenceMethod


def plan_of_defence(
    encoder: FrozenEncoder, data: ImageSource, settings: DefendSettings, head: nn.Module | None = None
) -> Plan:
    """The plan of :func:`heirloom.defence.job.defend`, from passes and two training steps of each method.

    Raises:
        InputError: a foundation model (or kept head) that does not take the images, or is not finite on them.
    """
    training = settings.defence.training
    images = shares_of(data, settings)
    check_before_work(encoder, images, settings, head)
    train = images.train
    few = train.select(torch.arange(min(TIMED, len(train)))).images
    known = len(train.classes) if head is not None else None

    def timed(whole: nn.Module, classes: int | None = None) -> Cost:
        with at_most(settings.eval_batch_size):
            return cost_of(whole, few, classes=classes, device=training.device)

    frozen = timed(Defended(nn.Identity(), encoder, head or nn.Identity()), known)
    stages, costs = list[Stage](), dict[str, Cost]()
    for method in settings.methods:
        chosen = settings.defence
        if method != chosen.method:
            chosen = replace(chosen, method=method, steps=steps_of(chosen, method))
        front = _untrained(method, images.pictures, settings, encoder)
        student, cost = student_of(front), frozen
        alone = timed(student) if student is not None else None
        if alone is not None and settings.is_encoder:
            cost = alone
        elif not isinstance(front, nn.Identity):
            cost = frozen.after(timed(Defended(front, nn.Flatten(), nn.Identity())))
        costs[method] = cost
        learned = target_head(chosen, encoder, head, train.classes)
        on = Trained(images.pictures, settings.threat, encoder, frozen, learned)
        stages += training_stages(on, chosen, cost)
        stages += _measuring(method, cost, data, settings, has_head=head is not None)
        if alone is not None and not settings.is_encoder:
            stages += _measuring(STUDENT_ALONE, alone, data, settings, has_head=head is not None)
    judged = costs[settings.defence.method]
    stages += audit_stage(judged, min(settings.audit_examples, len(data.test)))
    return Plan(tuple(stages), max(cost.memory(settings.eval_batch_size) for cost in costs.values()))


def _untrained(
    method: DefenceMethod, pictures: LabelledImages, settings: DefendSettings, encoder: FrozenEncoder
) -> nn.Module:
    """What will stand in front; for ``auto`` an auto-encoder, as most candidates have one."""
    named = "stability" if method == AUTO else method
    return fresh_preprocessor(pictures, replace(settings.defence, method=named), encoder)


def _measuring(
    method: str, cost: Cost, data: ImageSource, settings: DefendSettings, *, has_head: bool
) -> list[Stage]:
    count, classes = len(data.test), len(data.train.classes)
    stages = []
    if not has_head:
        passes = Passes(len(data.train))
        if settings.robust_head:
            attacked = settings.head.epochs * settings.head.adversarial_steps * len(data.train)
            passes += Passes(attacked, attacked)
        stages.append(Stage(f"head behind {method}", cost.seconds(passes), passes))
    stages += measuring(
        cost, count, settings.attacks, classes=classes, threat=settings.threat, label=f"{method}: "
    )
    curve = CURVE_PASSES * min(settings.curve_images, count) if method != STUDENT_ALONE else 0
    passes = Passes(curve, curve)
    return [*stages, *([Stage(f"{method}: security curve", cost.seconds(passes), passes)] if curve else [])]
