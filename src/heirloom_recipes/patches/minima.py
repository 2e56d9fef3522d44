"""Propositions 3.1 and 3.2: both global minima exist, and where they are robust (row F4).

``heirloom theory patches minima``: 2 s. Networks of weights gamma v_i (non-robust features alone) and gamma
u_i (robust features alone), their loss on the population, and their robustness by enumeration, by the
attack and by the closed form of ``heirloom.theory.patches.bounds``. Expected at eps = .52: v alone never
robust; u alone robust at gamma 1 to 10 and not at 30 and above, where the activation is linear.
"""

from __future__ import annotations

from typing import Any

import torch

from heirloom.report import Section, Text
from heirloom.theory.patches.bounds import non_robust_only_margin, robust_only_margin
from heirloom.theory.patches.curves import clean_correct, robust_correct
from heirloom.theory.patches.enumeration import enumerate_margins
from heirloom.theory.patches.model import PatchDistribution, noiseless
from heirloom.theory.patches.network import hand_built, patch_logits
from heirloom.theory.patches.training import PatchTraining, population_batch
from heirloom_recipes.patches.phases import NOISY
from heirloom_recipes.patches.result import ExperimentResult, exact, page_tables, percent, table

GAMMAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
EPS = 0.52


def minima_experiment(
    *, eps: float = EPS, distribution: PatchDistribution = NOISY, gammas: tuple[float, ...] = GAMMAS
) -> ExperimentResult:
    training = PatchTraining(eps=eps)
    rows = [
        _row(kind, gamma, training, noiseless(distribution))
        for kind in ("non-robust", "robust")
        for gamma in gammas
    ]
    columns = ["weights", "gamma", "loss", "clean", "robust", "certified", "attack", "closed form"]
    cells = [
        [
            f"gamma {'u' if row['features'] == 'robust' else 'v'}",
            f"{row['gamma']:g}",
            f"{row['loss']:.2g}",
            *(percent(row[name].value) for name in ("clean", "robust", "certified", "attack")),
            "robust" if row["predicted_robust"] else "not robust",
        ]
        for row in rows
    ]
    shown = table(f"Both kinds of global minima, eps = {eps:g} (accuracies in %)", columns, cells)
    return ExperimentResult("minima", rows, {"tables": [shown], "eps": eps})


def _row(kind: str, gamma: float, training: PatchTraining, distribution: PatchDistribution) -> dict[str, Any]:
    weight = hand_built(distribution, kind, gamma, training.filters)
    batch = population_batch(distribution, 1)
    eps, rho = float(training.eps), float(training.rho)
    logits, _ = patch_logits(weight[None].double(), batch.x.double(), batch.counts.double(), rho)
    loss = torch.nn.functional.cross_entropy(logits[0], batch.y).item()
    gold = enumerate_margins(weight, batch.x[0], batch.y, batch.counts[0], eps, rho=rho)
    closed = robust_only_margin if kind == "robust" else non_robust_only_margin
    strength = distribution.alpha if kind == "robust" else distribution.beta
    margin = closed(gamma, strength, eps, distribution.patches, distribution.robust_patches, rho=rho)
    k = distribution.classes
    return {
        "features": kind,
        "gamma": gamma,
        "loss": loss,
        "clean": exact(clean_correct(weight[None], batch, training).double().mean().item(), k),
        "robust": exact((~gold.attackable()).double().mean().item(), k),
        "certified": exact(gold.certified().double().mean().item(), k),
        "attack": exact(robust_correct(weight[None], batch, training).double().mean().item(), k),
        "predicted_robust": bool(margin > 0),
        "paper": {"loss": 0.0, "robust": 1.0 if kind == "robust" else 0.0},
    }


def minima_section(details: dict[str, Any]) -> Section:
    text = (
        "Weights gamma v_i classify every clean point and no attacked one at any scale. Weights gamma u_i "
        "are a global minimum that withstands every attack, certified by enumeration, while the attacked "
        "activations stay in the polynomial region; where they reach the linear region, the many patches "
        "that each carry a little of another class's feature outvote the few robust ones. Robust is by "
        "enumerated corners, certified by an upper bound over the whole ball, attack is what the five-step "
        "attack finds."
    )
    return Section("Both global minima exist (Propositions 3.1 and 3.2)", [Text(text), *page_tables(details)])
