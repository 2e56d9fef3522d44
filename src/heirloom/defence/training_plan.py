"""How long the trainings of ``defend`` will take: the stages of its plan that train."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.attacks.engine.passes import Passes
from heirloom.data.labelled import LabelledImages
from heirloom.defence.budget import steps_of
from heirloom.defence.choose import CANDIDATES, JUDGED, shortened
from heirloom.defence.distil import shares_of_phases
from heirloom.defence.settings import AUTO, PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.preflight import Cost, Stage, passes_of
from heirloom.threat import Threat
from heirloom.training.timing import step_seconds


@dataclass(frozen=True)
class Trained:
    """What a training reads beside its settings: the pictures, the threat, the frozen model, its cost and its head."""

    pictures: LabelledImages
    threat: Threat
    encoder: nn.Module
    frozen: Cost
    head: nn.Module | None


def training_stages(on: Trained, settings: PreprocessorSettings, judged: Cost) -> list[Stage]:
    """The trials of ``auto``, the teacher's features of ``distil``, the training; none where nothing is trained.

    Args:
        judged: the cost of what is measured: the preprocessor and the frozen model behind it, or a stand-in.
    """
    if settings.method == AUTO:
        return _trials(on, settings, judged)
    if settings.objective is None:
        return []
    return [*_features(on, settings), Stage(f"train {settings.method}", _seconds(on, settings))]


def _features(on: Trained, settings: PreprocessorSettings) -> list[Stage]:
    if settings.method != "distil":
        return []
    passes = Passes(_looks(on.pictures) * len(on.pictures))
    return [Stage("features for distil", on.frozen.seconds(passes), passes)]


def _looks(pictures: LabelledImages) -> int:
    """Colour images are read twice, the second time mirrored."""
    return 1 if pictures.shape[0] == 1 else 2


def _trials(on: Trained, settings: PreprocessorSettings, judged: Cost) -> list[Stage]:
    """Of every candidate, and of the one that is trained in full then: the costliest, as it may be any.

    A trial trains, takes the features of all images for its head, and is attacked.
    """
    found, full = list[Stage](), list[float]()
    attack = passes_of(FIRST_LOOK, judged.outputs, on.threat)
    after = judged.seconds(Passes(len(on.pictures) + JUDGED * attack.forward, JUDGED * attack.backward))
    for method in CANDIDATES:
        short = shortened(settings, method)
        whole = replace(settings, method=method, steps=steps_of(settings, method))
        each = None if settings.minutes is not None else _a_step(on, short)
        before = sum(stage.seconds for stage in _features(on, short))
        found.append(Stage(f"trial of {method}", before + _seconds(on, short, each) + after))
        full.append(before + _seconds(on, whole, each))
    return [*found, Stage("train what they choose", max(full))]


def _seconds(on: Trained, settings: PreprocessorSettings, each: list[float] | None = None) -> float:
    """Of the whole training; ``each``: of a step of each phase, where that was timed already."""
    if settings.minutes is not None:
        return 60 * settings.minutes
    each = _a_step(on, settings) if each is None else each
    steps = _steps(settings, len(on.pictures))
    return sum(seconds * steps[min(phase, len(steps) - 1)] for phase, seconds in enumerate(each))


def _steps(settings: PreprocessorSettings, images: int) -> list[int]:
    """Of each phase."""
    if settings.steps is not None:
        return list(settings.steps)
    an_epoch = images // min(settings.training.batch_size, images)
    if settings.method != "distil":
        return [settings.training.epochs * an_epoch]
    return [
        an_epoch * max(1, round(share * settings.training.epochs))
        for share in shares_of_phases(settings.distil)
    ]


def _a_step(on: Trained, settings: PreprocessorSettings) -> list[float]:
    """Seconds of a step of each phase, from real ones."""
    batch = min(settings.training.batch_size, len(on.pictures))
    read = 2 * batch * _looks(on.pictures) if settings.method == "distil" else 0
    return step_seconds(
        lambda size: _second_of_two(on, settings, size), batch, beside=on.frozen.seconds(Passes(read))
    )


def _second_of_two(on: Trained, settings: PreprocessorSettings, batch: int) -> list[float]:
    few = on.pictures.select(torch.arange(min(len(on.pictures), max(2 * batch, settings.distil.count))))
    short = replace(settings.training, batch_size=batch, checkpoint_seconds=float("inf"))
    ends: list[float] = []
    train_preprocessor(
        few,
        on.threat,
        replace(settings, minutes=None, steps=(2, 2), training=short),
        encoder=on.encoder,
        head=on.head,
        report=lambda done, total, losses: ends.append(time.perf_counter()),
    )
    return [second - first for first, second in zip(ends[::2], ends[1::2], strict=True)]
