"""Lemmas 5.1, 5.2 and B.2 against the simulation: increments of the features, and when one takes over.

``heirloom theory patches growth``: 10 s for 20 seeds of 60 filters on the noiseless population. The paper prints no
figures. Expected: standard training's steps are predicted to rounding; the step at which the non-robust
feature reaches 1 is predicted from the initial weights alone; adversarial steps are predicted while the
ascent step stays along the class's own features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from heirloom.report import Section, Text
from heirloom.results.statistics import mean
from heirloom.theory.patches.growth import diagonal, early_rate, predicted_growth, takeover_step
from heirloom.theory.patches.model import PatchDistribution, noiseless
from heirloom.theory.patches.training import (
    Batch,
    PatchTraining,
    descend,
    initial_networks,
    population_batch,
)
from heirloom_recipes.patches.phases import NOISELESS_STEPS, NOISY
from heirloom_recipes.patches.result import ExperimentResult, page_tables, table

LEVEL = 1.0  # a feature has taken over once its largest correlation is here
WINDOW = 50
WINDOWS = 8


@dataclass(frozen=True)
class Growth:
    """One training followed step by step: relative errors of the predicted increments of A and B in each
    window of ``WINDOW`` steps (windows, S); first step with the largest A, B of a class at ``LEVEL``
    (S, k), -1 where it never is; largest rise of a correlation with another class's feature."""

    error: tuple[Tensor, Tensor]
    takeover: tuple[Tensor, Tensor]
    off_diagonal_rise: float


def follow(weight: Tensor, batch: Batch, training: PatchTraining, distribution: PatchDistribution) -> Growth:
    """Train ``weight`` (S, k, m, d), comparing each step with what the lemmas predict for it."""
    steps = min(training.steps, WINDOW * WINDOWS)
    wrong, grown = (torch.zeros(2, WINDOWS, len(weight)) for _ in range(2))
    takeover = torch.full((2, len(weight), distribution.classes), -1)
    rise = 0.0
    for step in range(training.steps):
        before = diagonal(weight, distribution)
        for kind, along in enumerate(before):
            first = (along.amax(-1) >= LEVEL) & (takeover[kind] < 0)
            takeover[kind] = torch.where(first, step, takeover[kind])
        moved = descend(weight, batch, training)
        if step < steps:
            predicted = predicted_growth(weight, batch, training, distribution)
            for kind, (start, end) in enumerate(zip(before, diagonal(moved, distribution), strict=True)):
                wrong[kind, step // WINDOW] += (end - start - predicted[kind]).abs().sum((1, 2))
                grown[kind, step // WINDOW] += (end - start).abs().sum((1, 2))
            rise = max(rise, _off_diagonal_rise(weight, moved, distribution))
        weight = moved
    error = wrong / grown.clamp_min(1e-30)
    return Growth((error[0], error[1]), (takeover[0], takeover[1]), rise)


def _off_diagonal_rise(weight: Tensor, moved: Tensor, distribution: PatchDistribution) -> float:
    """How much the largest positive correlation with another class's feature grew in this step (Lemma D.7: it
    never does)."""
    k = distribution.classes
    own = torch.eye(k, dtype=torch.bool)[:, None, :].repeat(1, 1, 2)  # (k, 1, 2 k): u, then v
    largest = [w[..., : 2 * k].masked_fill(own, 0).clamp_min(0).amax() for w in (weight, moved)]
    return float(largest[1] - largest[0])


def growth_experiment(
    seeds: list[int], *, filters: int = 60, distribution: PatchDistribution = NOISY
) -> ExperimentResult:
    """Standard and adversarial training (margin) over ``seeds``."""
    plain = noiseless(distribution)
    batch = population_batch(plain, len(seeds))
    rows: list[dict[str, Any]] = []
    for objective in ("none", "margin"):
        training = PatchTraining(objective, filters=filters)
        training = replace(training, steps=NOISELESS_STEPS[training.kind])
        start = initial_networks(plain, training, seeds)
        rows += _rows(follow(start, batch, training, plain), start, seeds, training, plain)
    return ExperimentResult("growth", rows, {"tables": [_error_table(rows), _takeover_table(rows)]})


def _rows(
    growth: Growth, start: Tensor, seeds: list[int], training: PatchTraining, distribution: PatchDistribution
) -> list[dict[str, Any]]:
    initial = [along.amax(-1) for along in diagonal(start, distribution)]
    rates = [early_rate(training, distribution, robust=robust) for robust in (True, False)]
    predicted = [takeover_step(x, rate, LEVEL) for x, rate in zip(initial, rates, strict=True)]
    return [
        {
            "training": training.kind,
            "seed": seed,
            "filters": training.filters,
            "error_robust": growth.error[0][:, i].tolist(),
            "error_non_robust": growth.error[1][:, i].tolist(),
            "takeover_robust": growth.takeover[0][i].tolist(),
            "takeover_non_robust": growth.takeover[1][i].tolist(),
            "predicted_robust": predicted[0][i].tolist(),
            "predicted_non_robust": predicted[1][i].tolist(),
            "off_diagonal_rise": growth.off_diagonal_rise,
        }
        for i, seed in enumerate(seeds)
    ]


def _error_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for training in ("standard", "adversarial"):
        chosen = [row for row in rows if row["training"] == training]
        for kind in ("robust", "non_robust"):
            errors = (
                torch.tensor([row[f"error_{kind}"] for row in chosen], dtype=torch.float64).median(0).values
            )
            shown = [f"{value:.1g}" if value < 0.1 else f"{value:.2f}" for value in errors.tolist()]
            if training == "standard":
                shown = [*shown[: 300 // WINDOW], *["-"] * (WINDOWS - 300 // WINDOW)]
            cells.append([f"{training}, {kind.replace('_', '-')}", *shown])
    steps = [f"{WINDOW * i}-{WINDOW * (i + 1)}" for i in range(WINDOWS)]
    caption = "Relative error of the increments that Lemmas 5.1 and 5.2 predict, by steps, median over seeds"
    return table(caption, ["feature", *steps], cells)


def _takeover_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for training in ("standard", "adversarial"):
        for kind in ("robust", "non_robust"):
            chosen = [row for row in rows if row["training"] == training]
            pairs = [
                (p, t)
                for row in chosen
                for p, t in zip(row[f"predicted_{kind}"], row[f"takeover_{kind}"], strict=True)
            ]
            reached = [(p, t) for p, t in pairs if t >= 0]
            ratio = str(mean([t / max(p, 1) for p, t in reached])) if reached else "-"
            expected = f"{torch.tensor([p for p, _ in pairs]).double().median():.0f}"
            found = f"{torch.tensor([t for _, t in reached]).double().median():.0f}" if reached else "never"
            shown = f"{training}, {kind.replace('_', '-')}"
            cells.append([shown, expected, found, f"{len(reached)}/{len(pairs)}", ratio])
    caption = (
        f"The step at which a class's largest correlation reaches {LEVEL:g}: by Lemma B.2 from the initial weights "
        "alone, and simulated (medians over classes and seeds)"
    )
    return table(caption, ["feature", "predicted", "simulated", "reached", "simulated / predicted"], cells)


def growth_section(details: dict[str, Any]) -> Section:
    text = (
        "One step of gradient descent, projected onto the features. In standard training the projection is exact on "
        "the noiseless population. In adversarial training it leaves out what the ascent step adds along other "
        "classes' features, so its error says how far the step stays along the class's own."
    )
    return Section(
        "Steps predicted and simulated (Lemmas 5.1, 5.2, B.2)", [Text(text), *page_tables(details)]
    )
