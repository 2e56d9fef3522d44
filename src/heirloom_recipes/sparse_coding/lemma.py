"""Lemma 4.2 checked on built networks: is the attacker's view between theta_X and theta? (I7)

    heirloom theory sparse-coding lemma --out runs/lemma

Cost: 3 kinds x 4 levels at the paper's size, about half a minute on one thread. Expected: no violation;
the view grows like sqrt(m k), as Theorem A.1 says, only where the same features share the same nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from heirloom.results.statistics import mean
from heirloom.runtime.randomness import seed_of
from heirloom.theory.sparse_coding.bounds import Bounds, lemma_4_2
from heirloom.theory.sparse_coding.built import KINDS, Kind, built_network
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting, intercept

# an earlier, independent trial's middle term at m = 1, 2, 5, 10 (300 x; lower 3.1, upper 31.6)
TRIAL: dict[str, tuple[float, ...]] = {
    "random": (3.25, 3.29, 3.62, 4.37),
    "exact": (3.09, 3.19, 3.49, 4.17),
    "grouped": (3.10, 4.38, 6.92, 9.50),
}


@dataclass(frozen=True)
class Lemma:
    """``bounds[kind, m]``: equation (3) for each x, with U a = theta = 1."""

    setting: Figure4Setting
    bounds: dict[tuple[Kind, int], Bounds]

    def rows(self) -> list[dict[str, Any]]:
        """A row per kind and m: means over x, violations, and the middle over sqrt(m k)."""
        rows = []
        for (kind, m), found in self.bounds.items():
            row: dict[str, Any] = {
                "lab": "lemma",
                "kind": kind,
                "m": m,
                "lower": mean(found.lower),
                "middle": mean(found.middle),
                "upper": found.upper,
                "violations": found.violations(),
                "inputs": len(found.lower),
                "over_sqrt_mk": float(found.middle.mean()) / math.sqrt(m * self.setting.k),
            }
            if self.setting.is_published and m in (1, 2, 5, 10):
                row["trial"] = TRIAL[kind][(1, 2, 5, 10).index(m)]
            rows.append(row)
        return rows

    def slopes(self) -> dict[str, float]:
        """For each kind the slope of log middle in log m: 1/2 in Theorem A.1."""
        found: dict[str, float] = {}
        for kind in KINDS:
            levels = [
                (math.log(m), math.log(float(b.middle.mean())))
                for (k, m), b in self.bounds.items()
                if k == kind
            ]
            if len(levels) > 1:
                x, y = torch.tensor(levels, dtype=torch.float64).T
                found[kind] = float(((x - x.mean()) * y).sum() / (x - x.mean()).square().sum())
        return found


def lemma(setting: Figure4Setting, inputs: int = 300, seed: int = 0) -> Lemma:
    """Equation (3) for ``inputs`` draws of x and noise on each kind of network; the noise reaches the gates."""
    data = SparseCoding(setting.d, setting.k, setting.zeta, setting.noise)
    generator = torch.Generator().manual_seed(seed_of(seed, "lemma"))
    x, noise = data.features(inputs, generator), data.xi(inputs, generator)
    bounds: dict[tuple[Kind, int], Bounds] = {}
    kinds: tuple[Kind, ...] = ("random", "exact", "grouped")
    for kind in kinds:
        for m in setting.ms:
            U = built_network(setting.d, setting.nodes, m, generator, kind).dense()
            ones = torch.ones(setting.nodes)
            bounds[kind, m] = lemma_4_2(U, ones, x, intercept(setting, m), noise=noise)
    return Lemma(setting, bounds)
