"""The columns that pre-training and probes report: clean, each attack, and the worst case over all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.precision import dtype_named
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.runs import Progress, silent
from heirloom.runtime.choices import Dtype
from heirloom.threat import Threat


def measured(
    model: nn.Module,
    data: ImageSource,
    threat: Threat,
    attacks: tuple[str, ...],
    *,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
    attack_dtype: Dtype | None = None,
    folder: Path | None = None,
    told: Progress = silent,
) -> dict[str, Any]:
    """``clean``, each attack's column, and ``robust``: the last, which is the worst case over all."""
    options: dict[str, Any] = {"batch_size": batch_size, "folder": folder, "told": told}
    options["attack_dtype"] = attack_dtype
    return figures_of(verdicts(model, data, threat, attacks, seed=seed, device=device, **options))


def verdicts(
    model: nn.Module,
    data: ImageSource,
    threat: Threat,
    attacks: tuple[str, ...],
    *,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
    attack_dtype: Dtype | None = None,
    folder: Path | None = None,
    told: Progress = silent,
) -> Evaluation:
    """Verdicts on the test images; kept in ``folder``, and gone on with from there."""

    def report(attack: str, done: int, total: int, robust: float) -> None:
        told(f"evaluate: {attack}", done, total, f"robust {100 * robust:.1f} %")

    return evaluate(
        model,
        data.test.pair,
        threat,
        attacks,
        batch_size=batch_size,
        attack_dtype=None if attack_dtype is None else dtype_named(attack_dtype),
        device=device,
        seed=seed,
        folder=folder,
        resume=True,
        report=report,
    )


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    row = evaluation.row()
    return {**row, "robust": list(row.values())[-1]}


def words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
