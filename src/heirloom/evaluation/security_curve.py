"""Robust accuracy against eps (a security evaluation curve, Biggio and Roli, Pattern Recognition 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from heirloom.data.unit_images import Pair, select
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.statistics import proportion
from heirloom.threat import Threat

FACTORS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


def security_curve(
    model: nn.Module,
    data: Pair,
    threat: Threat,
    *,
    factors: Sequence[float] = FACTORS,
    attack: str = "pgd-20",
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Accuracy under ``attack`` at each of ``factors`` times the threat's eps, in ascending order.

    An image that fooled the model inside a small ball lies inside the larger ones too, so only survivors are
    attacked again and the curve can only fall.

    Returns:
        ``[{"eps": ..., "accuracy": Proportion}, ...]``; eps 0 is clean accuracy.
    """
    images, labels = data
    standing = torch.ones(len(labels), dtype=torch.bool)
    points = []
    for factor in sorted(factors):
        alive = standing.nonzero().flatten()
        if len(alive):
            column = attack if factor > 0 else "clean"
            ball = replace(threat, eps=threat.eps * factor) if factor > 0 else threat
            found = evaluate(
                model,
                (select(images, alive), labels[alive]),
                ball,
                [attack] if factor > 0 else [],
                batch_size=batch_size,
                seed=seed,
                device=device,
            )
            standing[alive] = found.correct[column]
        points.append({"eps": threat.eps * factor, "accuracy": proportion(standing)})
    return points
