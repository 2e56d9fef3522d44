"""Theorem 4.3's perturbation, which knows no model, and feature-learning accuracy (rows F6 and F7).

``heirloom theory patches perturbation``: 30 s for 3 seeds (it trains the noisy networks). Every non-robust
patch loses part of its own class's feature and gains as much of another's: with the radius eps, min(eps,
beta_p) of each. The paper replaces the whole feature, which needs eps >= beta. Expected at eps = .55:
standard training falls to 0, adversarial training stays at 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.analysis.feature_learning import feature_learned
from heirloom.report import Section, Text
from heirloom.results.statistics import proportion, student
from heirloom.theory.patches.attack import model_free_perturbation
from heirloom.theory.patches.model import PatchDistribution, sample_patches
from heirloom.theory.patches.network import PatchCNN
from heirloom_recipes.patches.phases import NOISY, SIZES, PhaseRun, data_generator
from heirloom_recipes.patches.result import ExperimentResult, page_tables, table

RADII = (0.25, 0.45, 0.55, 0.65, 0.8, 1.05)


def perturbation_experiment(
    runs: list[PhaseRun], distribution: PatchDistribution = NOISY
) -> ExperimentResult:
    """``runs``: noisy standard and adversarial training over the same seeds."""
    rows = [
        row
        for run in runs
        for number, seed in enumerate(run.seeds)
        for row in _network_rows(run, number, seed, distribution)
    ]
    return ExperimentResult("perturbation", rows, {"tables": [_radius_table(rows), _feature_table(rows)]})


def _network_rows(
    run: PhaseRun, number: int, seed: int, distribution: PatchDistribution
) -> list[dict[str, Any]]:
    """One network on its own test points: the first row has what does not depend on eps."""
    generator = data_generator(seed)
    sample_patches(distribution, SIZES[0], generator)  # the training points, drawn before the test points
    sample = sample_patches(distribution, run.points, generator)
    network = PatchCNN(run.weights[number], rho=float(run.training.rho), q=run.training.q)
    base = {"training": run.training.kind, "objective": run.training.objective, "seed": seed}
    kinds = {kind: (sample.representative(kind), sample.y) for kind in ("robust", "non-robust")}
    learned = {kind: proportion(feature_learned(network, data)) for kind, data in kinds.items()}
    confidence = {kind: _confidence(network, *data) for kind, data in kinds.items()}
    rows: list[dict[str, Any]] = [
        {**base, "eps": None, "feature_learning": learned, "confidence": confidence},
    ]
    for eps in RADII:
        moved = sample.x + model_free_perturbation(sample, eps, generator)
        with torch.no_grad():
            right = network(moved).argmax(1) == sample.y
        rows.append({**base, "eps": eps, "accuracy": proportion(right)})
    return rows


@torch.no_grad()
def _confidence(network: PatchCNN, x: Tensor, y: Tensor) -> float:
    """Mean probability of the feature's class."""
    return float(network(x).softmax(1).gather(1, y[:, None]).mean())


def _over_seeds(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    found = student(values, 0.0, 1.0)
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _radius_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for training in ("standard", "adversarial"):
        chosen = [row for row in rows if row["training"] == training and row["eps"] is not None]
        of_radius = ([row["accuracy"].value for row in chosen if row["eps"] == eps] for eps in RADII)
        cells.append([training, *(_over_seeds(values) for values in of_radius)])
    caption = "Accuracy under the model-free perturbation of Theorem 4.3, mean [95 % interval over seeds]"
    return table(caption, ["training", *(f"eps {eps:g}" for eps in RADII)], cells)


def _feature_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = []
    for training in ("standard", "adversarial"):
        chosen = [row for row in rows if row["training"] == training and row["eps"] is None]
        line = [training]
        for kind in ("robust", "non-robust"):
            line.append(_over_seeds([row["feature_learning"][kind].value for row in chosen]))
            line.append(_over_seeds([row["confidence"][kind] for row in chosen]))
        cells.append(line)
    columns = ["training", "u alone", "u probability", "v alone", "v probability"]
    caption = (
        "Feature-learning accuracy (Definition 4.1): only one kind of feature present, and the mean "
        "probability that the network gives its class; mean [95 % interval over seeds]"
    )
    return table(caption, columns, cells)


def perturbation_section(details: dict[str, Any]) -> Section:
    text = (
        "The perturbation knows no network: it moves every non-robust patch from its class's feature towards "
        "another's. Standard training rests on those features and falls; adversarial training does not."
    )
    return Section("A perturbation that knows no model (Theorem 4.3)", [Text(text), *page_tables(details)])
