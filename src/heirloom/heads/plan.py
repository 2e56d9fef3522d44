"""The plan of ``probe``."""

from __future__ import annotations

import torch
from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.attacks.engine.passes import Passes
from heirloom.data.labelled import ImageSource
from heirloom.evaluation.preflight import TIMED, Plan, Stage, cost_of, measuring, passes_of
from heirloom.heads.probe import ProbeSettings
from heirloom.models.memory import at_most
from heirloom.threat import Threat


def plan_of_probe(
    encoder: nn.Module,
    data: ImageSource,
    threat: Threat,
    settings: ProbeSettings,
    attacks: tuple[str, ...],
    *,
    adversarial: bool = False,
) -> Plan:
    """The plan of :func:`heirloom.heads.job.probe_job`.

    Raises:
        InputError: an encoder that does not take the images, or whose features are no finite (N, D).
    """
    few = data.train.select(torch.arange(min(TIMED, len(data.train)))).images
    with at_most(settings.eval_batch_size):
        cost, count = cost_of(encoder, few, device=settings.adversarial.device), len(data.train)
    passes = Passes(count)
    stages = [Stage("features", cost.seconds(passes), passes)]
    heads = ["clean"]
    if adversarial:
        held = min(settings.validation_images, round(settings.validation * count))
        look, epochs = passes_of(FIRST_LOOK, len(data.train.classes), threat), settings.adversarial.epochs
        steps = settings.attack.steps * count
        passes = Passes(
            epochs * (steps + count + look.forward * held), epochs * (steps + look.backward * held)
        )
        stages.append(Stage("adversarial head", cost.seconds(passes), passes))
        heads.append("adversarial")
    for head in heads:
        stages += measuring(
            cost,
            len(data.test),
            attacks,
            classes=len(data.train.classes),
            threat=threat,
            label=f"{head} head: ",
        )
    return Plan(tuple(stages), cost.memory(settings.eval_batch_size))
