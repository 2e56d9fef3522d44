"""The plans of ``evaluate`` and ``certify``: what they will do, and about how long it takes here."""

from __future__ import annotations

from torch import Tensor, nn

from heirloom.attacks.engine.passes import Passes
from heirloom.evaluation.certify import CertifySettings
from heirloom.evaluation.preflight import Plan, Stage, audit_stage, cost_of, measuring
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.models.memory import at_most

ADAPTIVE = 300  # passes of the adaptive attack for each source of gradients, about


def plan_of_evaluation(model: nn.Module, images: Tensor, settings: EvaluationSettings, count: int) -> Plan:
    """The plan of :func:`heirloom.evaluation.job.evaluate_job`.

    Args:
        images: a few of the ``count`` that are evaluated.

    Raises:
        InputError: a model that does not take the images, or whose logits are no finite (N, classes).
    """
    with at_most(settings.batch_size):
        cost = cost_of(model, images, device=settings.device)
    stages = []
    for seed in range(settings.seeds):
        label = f"seed {settings.seed + seed}: " if settings.seeds > 1 else ""
        stages += measuring(
            cost, count, settings.attacks, classes=cost.outputs, threat=settings.threat, label=label
        )
    stages += audit_stage(cost, min(settings.audit_examples, count))
    if settings.adaptive:
        passes = Passes(ADAPTIVE * count, ADAPTIVE * count)
        stages.append(Stage("adaptive attack", cost.seconds(passes), passes))
    return Plan(tuple(stages), cost.memory(min(settings.batch_size or cost.at_once, count)))


def plan_of_certification(model: nn.Module, images: Tensor, settings: CertifySettings, count: int) -> Plan:
    """The plan of :func:`heirloom.evaluation.certify_job.certify_job`: draws for each of ``count`` images."""
    cost = cost_of(model, images, device=settings.device, with_gradient=False)
    passes = Passes((settings.n + settings.n0) * count)
    size = min(settings.batch_size, settings.n, cost.at_once)
    return Plan((Stage("certify", cost.seconds(passes), passes),), cost.memory(size))
