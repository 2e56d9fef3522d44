"""Where robust training on patch data can succeed: the derived inequality over simulated phase diagrams.

``heirloom theory patches regime``: 2 minutes for 2 seeds a cell. One of alpha, beta, P, J_R, rho varies against
eps, the others stay at the defaults; every cell is standard and adversarial training (margin) on the exact
population. Expected: where the non-robust features can be attacked, adversarial training succeeds inside
slack > 1 only, and never at eps >= beta. Then: in how many seeds both trainings end as the paper says, by the
ascent step and by the number of filters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from heirloom.theory.patches.bounds import regime
from heirloom.theory.patches.curves import ROBUST, clean_correct, robust_correct
from heirloom.theory.patches.model import PatchDistribution, noiseless
from heirloom.theory.patches.training import (
    Batch,
    PatchTraining,
    initial_networks,
    population_batch,
    train_networks,
)
from heirloom_recipes.patches.phases import NOISELESS_STEPS, NOISY
from heirloom_recipes.patches.reliability import (
    RELIABILITY,
    RELIABILITY_NAMES,
    reliability_rows,
    reliability_table,
)
from heirloom_recipes.patches.result import ExperimentResult, table

AXES: dict[str, tuple[float, ...]] = {
    "alpha": (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0),
    "beta": (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5),
    "patches": (20, 40, 70, 100, 140, 180, 240, 320),
    "robust_patches": (1, 2, 3, 4, 6, 8),
    "rho": (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0),
}
EPS_GRID = tuple(round(0.30 + 0.05 * step, 2) for step in range(16))
CHUNK = 160  # networks trained at once: their activations stay in the processor's cache
Cell = dict[str, float]


def regime_experiment(
    seeds: int,
    *,
    base: PatchDistribution = NOISY,
    reliability_seeds: int = 100,
    first_seed: int = 0,
    axes: dict[str, tuple[float, ...]] = AXES,
    eps_grid: tuple[float, ...] = EPS_GRID,
    options: dict[str, tuple[Any, ...]] = RELIABILITY,
    note: Callable[[str], None] = lambda _: None,
) -> ExperimentResult:
    """Simulate every panel; ``seeds`` networks a cell."""
    rows: list[dict[str, Any]] = []
    chosen = list(range(first_seed, first_seed + seeds))
    for name, values in axes.items():
        note(f"{name} against eps")
        rows += simulate(name, list(product(values, eps_grid)), chosen, noiseless(base))
    tables = [_verdicts(rows)]
    reliability: list[dict[str, Any]] = []
    for name, values in options.items():
        note(RELIABILITY_NAMES[name])
        some = list(range(first_seed, first_seed + reliability_seeds))
        found = reliability_rows(name, values, some, noiseless(base))
        tables.append(reliability_table(name, found))
        reliability += found
    panels = [_panel(name, list(values), list(eps_grid), rows) for name, values in axes.items()]
    details = {"tables": tables, "panels": panels, "base": _base(base)}
    return ExperimentResult("regime", [*rows, *reliability], details)


def simulate(
    name: str, cells: list[tuple[float, float]], seeds: list[int], base: PatchDistribution
) -> list[dict[str, Any]]:
    """Train all cells (value of ``name``, eps) of one panel; a row each."""
    settings = [{**_base(base), name: value, "eps": eps} for value, eps in cells]
    runs = [(cell, seed) for cell in settings for seed in seeds]
    ends = {
        objective: torch.cat(
            [_train(runs[i : i + CHUNK], objective, base) for i in range(0, len(runs), CHUNK)]
        )
        for objective in ("none", "margin")
    }
    ends = {objective: end.view(len(cells), len(seeds), 2) for objective, end in ends.items()}
    rows = []
    for number, cell in enumerate(settings):
        ratios = regime(*(cell[key] for key in ("alpha", "beta", "eps", "patches", "robust_patches")))
        robust = ends["margin"][number, :, 1]
        rows.append(
            {
                "panel": name,
                **cell,
                "seeds": len(seeds),
                "standard_clean": float(ends["none"][number, :, 0].mean()),
                "standard_robust": float(ends["none"][number, :, 1].mean()),
                "adversarial_clean": float(ends["margin"][number, :, 0].mean()),
                "adversarial_robust": float(robust.mean()),
                "adversarial_succeeds": float((robust >= ROBUST).double().mean()),
                "dominance": float(ratios.dominance),
                "vulnerability": min(float(ratios.vulnerability), 1e9),
                "slack": float(ratios.slack),
                "possible": bool(ratios.possible),
            }
        )
    return rows


def _train(runs: list[tuple[Cell, int]], objective: str, base: PatchDistribution) -> Tensor:
    """Final clean and robust accuracy (S, 2) of networks that each have their own setting."""

    def column(key: str) -> Tensor:
        return torch.tensor([cell[key] for cell, _ in runs])

    eps, rho = (column(key)[:, None, None] for key in ("eps", "rho"))
    training = PatchTraining(objective=objective, eps=eps, rho=rho)
    training = replace(training, steps=NOISELESS_STEPS[training.kind])
    unit = population_batch(replace(base, alpha=1.0, beta=1.0), 1)
    strength = torch.stack([column("alpha"), column("beta")], 1)[:, None, :, None]
    robust = column("robust_patches")
    counts = torch.stack([robust, column("patches") - robust], 1)
    batch = Batch(unit.x * strength, unit.y, counts, base.classes)
    weights = initial_networks(base, training, [seed for _, seed in runs])
    weights = train_networks(weights, batch, training)
    accuracies = (check(weights, batch, training) for check in (clean_correct, robust_correct))
    return torch.stack([accuracy.double().mean(1) for accuracy in accuracies], 1)


def _panel(name: str, values: list[float], eps: list[float], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One phase diagram: robust accuracy on the grid (value, eps) after either training."""
    cells = [row for row in rows if row["panel"] == name]
    grids = {kind: [round(row[f"{kind}_robust"], 4) for row in cells] for kind in ("adversarial", "standard")}
    return {"axis": name, "values": values, "eps": eps, **grids}


def _base(base: PatchDistribution) -> Cell:
    return {
        "alpha": base.alpha,
        "beta": base.beta,
        "patches": float(base.patches),
        "robust_patches": float(base.robust_patches),
        "rho": float(PatchTraining().rho),
    }


def _verdicts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the derived conditions and the simulation agree."""
    # the inequality is for the polynomial region: the rho panel shows where that assumption ends
    cells = [row for row in rows if row["panel"] != "rho"]
    groups = {
        "all three conditions": [row for row in cells if row["possible"]],
        "slack > 1": [row for row in cells if row["slack"] > 1],
        "slack < 1, vulnerability >= 1": [
            row for row in cells if row["slack"] < 1 and row["vulnerability"] >= 1
        ],
        "eps >= beta, dominance > 1": [
            row for row in cells if row["eps"] >= row["beta"] and row["dominance"] > 1
        ],
        "dominance < 1": [row for row in cells if row["dominance"] < 1],
    }
    shown = []
    for name, group in groups.items():
        successes = sum(row["adversarial_succeeds"] > 0 for row in group)
        both = sum(row["adversarial_succeeds"] == 1 for row in group)
        zero = sum(row["standard_robust"] == 0 for row in group)
        mean = sum(row["adversarial_succeeds"] for row in group) / max(len(group), 1)
        shown.append(
            [
                name,
                len(group),
                f"{zero}/{len(group)}",
                f"{successes}/{len(group)}",
                f"{both}/{len(group)}",
                f"{100 * mean:.0f} %",
            ]
        )
    columns = [
        "cells where",
        "cells",
        "standard robust 0",
        "succeeds, any seed",
        "succeeds, every seed",
        "networks",
    ]
    return table(
        "The derived conditions against the simulation (all panels but rho): cells in which standard training ends "
        "at robust accuracy 0, in which adversarial training ends at .95 or more with any and with every seed, "
        "and the share of networks that do",
        columns,
        shown,
    )
