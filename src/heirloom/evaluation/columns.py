"""The columns that pre-training and probes report: clean, each attack, and the worst case over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.threat import Threat

Progress = Callable[[str, int, int, str], None]  # (stage, done, in all, a few words)


def measured(
    model: nn.Module,
    data: ImageSource,
    threat: Threat,
    attacks: tuple[str, ...],
    device: str,
    told: Progress,
    seed: int,
) -> dict[str, Any]:
    """``clean``, each attack's column, and ``robust``: the last, which is the worst case over all."""
    return figures_of(verdicts(model, data, threat, attacks, device, told, seed))


def verdicts(
    model: nn.Module,
    data: ImageSource,
    threat: Threat,
    attacks: tuple[str, ...],
    device: str,
    told: Progress,
    seed: int,
) -> Evaluation:
    def report(attack: str, done: int, total: int, robust: float) -> None:
        told(f"evaluate: {attack}", done, total, f"robust {100 * robust:.1f} %")

    pair = (data.test.images, data.test.labels)
    return evaluate(model, pair, threat, attacks, device=device, seed=seed, report=report)


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    row = evaluation.row()
    return {**row, "robust": list(row.values())[-1]}


def describe(data: ImageSource) -> str:
    shape = " x ".join(map(str, data.train.shape))
    return f"{data.name}: {len(data.train)} training, {len(data.test)} test images of {shape}"


def words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())


def silent(stage: str, done: int, total: int, words: str) -> None:
    """A progress that tells nobody."""
