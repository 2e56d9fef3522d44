"""The plan of ``features build``."""

from __future__ import annotations

import torch
from torch import nn

from heirloom.attacks.engine.passes import Passes
from heirloom.data.labelled import ImageSource
from heirloom.evaluation.preflight import TIMED, Plan, Stage, cost_of
from heirloom.features.settings import BuildSettings


def plan_of_build(encoder: nn.Module, data: ImageSource, settings: BuildSettings) -> Plan:
    """The plan of :func:`heirloom.features.job.build_features`: a forward and a backward pass a step and image.

    Raises:
        InputError: an encoder that does not take the images, or whose features are no finite (N, D).
    """
    few = data.train.select(torch.arange(min(TIMED, len(data.train)))).images
    cost = cost_of(encoder, few, device=settings.device)
    stages = []
    for name, images in (("train", data.train), ("test", data.test)):
        steps = settings.steps * len(images)
        passes = Passes(steps + len(images), steps)
        stages.append(Stage(f"build: {name}", cost.seconds(passes), passes))
    return Plan(tuple(stages), cost.memory(min(settings.batch_size, cost.at_once)))
