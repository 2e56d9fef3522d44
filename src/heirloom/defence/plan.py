"""The plan of ``defend``: every method trained and measured, about how long it takes here, how much memory."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.attacks.engine.passes import Passes
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.budget import steps_of
from heirloom.defence.checks import check_before_work
from heirloom.defence.choose import CANDIDATES, JUDGED, shortened
from heirloom.defence.controls import STUDENT_ALONE, student_of, target_head
from heirloom.defence.settings import AUTO, DefendSettings, PreprocessorSettings
from heirloom.defence.shares import shares_of
from heirloom.defence.train_preprocessor import fresh_preprocessor, train_preprocessor
from heirloom.evaluation.preflight import (
    CURVE_PASSES,
    TIMED,
    Cost,
    Plan,
    Stage,
    audit_stage,
    cost_of,
    measuring,
    passes_of,
)
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.memory import at_most
from heirloom.runtime.choices import DefenceMethod
from heirloom.threat import Threat


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

    behind = timed(Defended(nn.Identity(), encoder, head or nn.Identity()), known)
    stages, costs = list[Stage](), dict[str, Cost]()
    for method in settings.methods:
        chosen = settings.defence
        if method != chosen.method:
            chosen = replace(chosen, method=method, steps=steps_of(chosen, method))
        front = _untrained(method, images.pictures, settings, encoder)
        student, cost = student_of(front), behind
        alone = timed(student) if student is not None else None
        if alone is not None and settings.is_encoder:
            cost = alone
        elif not isinstance(front, nn.Identity):
            cost = behind.after(timed(Defended(front, nn.Flatten(), nn.Identity())))
        costs[method] = cost
        learned = target_head(chosen, encoder, head, train.classes)
        stages += _training(images.pictures, settings.threat, chosen, encoder, learned, cost)
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


def _training(
    train: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    encoder: FrozenEncoder,
    head: nn.Module | None,
    cost: Cost,
) -> list[Stage]:
    name = f"train {settings.method}"
    if settings.method == AUTO:
        return _trials(train, threat, settings, encoder, head, cost)
    if settings.objective is None:
        return []
    if settings.minutes is not None:
        return [Stage(name, 60 * settings.minutes)]
    batch = min(settings.training.batch_size, len(train))
    steps = sum(settings.steps or (settings.training.epochs * (len(train) // batch),))
    return [Stage(name, steps * batch * _seconds_an_image(train, threat, settings, encoder, head))]


def _trials(
    train: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    encoder: FrozenEncoder,
    head: nn.Module | None,
    cost: Cost,
) -> list[Stage]:
    """Of every candidate, and of the one that is trained in full then: the costliest, as it may be any.

    A trial trains, takes the features of all images for its head, and is attacked.
    """
    found, full = list[Stage](), list[Stage]()
    judged = passes_of(FIRST_LOOK, cost.outputs, threat)
    after = cost.seconds(Passes(len(train) + JUDGED * judged.forward, JUDGED * judged.backward))
    for method in CANDIDATES:
        (short,) = _training(train, threat, shortened(settings, method), encoder, head, cost)
        found.append(Stage(f"trial of {method}", short.seconds + after))
        whole = replace(settings, method=method, steps=steps_of(settings, method))
        full += _training(train, threat, whole, encoder, head, cost)
    return [*found, Stage("train what they choose", max(stage.seconds for stage in full))]


def _seconds_an_image(
    train: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    encoder: FrozenEncoder,
    head: nn.Module | None,
) -> float:
    """Of the second of two real training steps on a small batch."""
    batch = min(settings.training.batch_size, TIMED, len(train))
    few = train.select(torch.arange(min(len(train), max(2 * batch, settings.distil.count))))
    short = replace(settings.training, batch_size=batch, checkpoint_seconds=float("inf"))
    ends: list[float] = []
    train_preprocessor(
        few,
        threat,
        replace(settings, minutes=None, steps=(2, 2), training=short),
        encoder=encoder,
        head=head,
        report=lambda done, total, losses: ends.append(time.perf_counter()),
    )
    return (ends[1] - ends[0]) / batch if len(ends) > 1 else 0.0


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
