"""How often both of the paper's claims hold at the default setting, by training option."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heirloom.results.statistics import proportion
from heirloom.theory.patches.curves import ROBUST, robust_correct
from heirloom.theory.patches.model import PatchDistribution
from heirloom.theory.patches.training import PatchTraining, initial_networks, population_batch, train_networks
from heirloom_recipes.patches.phases import NOISELESS_STEPS
from heirloom_recipes.patches.result import table

RELIABILITY: dict[str, tuple[Any, ...]] = {
    "ascent_step": (500.0, 1000.0, 2000.0, 4000.0, 8000.0),
    "filters": (10, 20, 30, 45, 60, 100),
}
RELIABILITY_NAMES = {"ascent_step": "ascent step", "filters": "filters a class"}


def reliability_rows(
    name: str, values: tuple[Any, ...], seeds: list[int], base: PatchDistribution
) -> list[dict[str, Any]]:
    """In how many seeds both claims hold at the default setting, over values of one training option."""
    batch = population_batch(base, len(seeds))
    rows = []
    for value in values:
        robust = {}
        for kind, objective in (("standard", "none"), ("adversarial", "margin")):
            training = replace(PatchTraining(objective, NOISELESS_STEPS[kind]), **{name: value})
            weights = train_networks(initial_networks(base, training, seeds), batch, training)
            robust[kind] = robust_correct(weights, batch, training).double().mean(1)
        rows.append(
            {
                "panel": name,
                name: value,
                "standard_zero": proportion(robust["standard"] == 0),
                "succeeds": proportion(robust["adversarial"] >= ROBUST),
            }
        )
    return rows


def reliability_table(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [[f"{row[name]:g}", str(row["standard_zero"]), str(row["succeeds"])] for row in rows]
    caption = (
        f"Seeds (%, of {rows[0]['succeeds'].n}) in which standard training ends at robust accuracy 0 and "
        "adversarial training at .95 or more"
    )
    return table(caption, [RELIABILITY_NAMES[name], "standard 0", "adversarial >= .95"], cells)
