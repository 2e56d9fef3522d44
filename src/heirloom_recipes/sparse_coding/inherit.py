"""What a clean-trained downstream head inherits, against how pure the nodes are (I9; open question 1).

    heirloom theory sparse-coding inherit --out runs/inherit

Cost: 7 eps x 5 seeds trained, 7 shares x 10 networks built: about 6 minutes on one thread (``--tiny``:
seconds). Proposition 6.1 says that the gap L_eps - L_0 of a pure network is of the order of eps sqrt(k) and
that of some clean-trained network far above; how it falls in between is the question left open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from heirloom.results.statistics import mean
from heirloom.runtime.errors import require
from heirloom.runtime.randomness import seed_of
from heirloom.theory.sparse_coding.built import mixture
from heirloom.theory.sparse_coding.downstream import (
    SIZE,
    Attacks,
    Downstream,
    Effort,
    downstream,
    downstream_of,
)
from heirloom.theory.sparse_coding.losses import intercepts
from heirloom.theory.sparse_coding.model import random_dictionary
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom.theory.sparse_coding.training import Trained, purity, train
from heirloom_recipes.sparse_coding.intervals import interval, spearman

PRETRAIN_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
ATTACK_EPS = (0.05, 0.1, 0.2, 0.3)
GATE_AWARE_EPS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Judged = tuple[Attacks, tuple[int, int]]  # by which attacks, and sizes of the task


@dataclass(frozen=True)
class Group:
    """Networks pre-trained (or built) alike, their purity (R,) and their downstream task."""

    name: str
    level: float
    purity: dict[str, Tensor]
    task: Downstream

    def row(self, kind: str) -> dict[str, Any]:
        row: dict[str, Any] = {"lab": "inherit", "networks": kind, "pretrain": self.name, "level": self.level}
        row |= {"downstream": "clean", "clean": mean(self.task.clean)}
        row |= {name: mean(self.purity[name]) for name in ("top_1", "pure", "hoyer", "count")}
        row |= {name: interval(values) for name, values in self.task.gaps.items()}
        return row

    def points(self) -> list[dict[str, float]]:
        """Every network's purity and its gaps at the largest eps."""
        label = f"gap_{ATTACK_EPS[-1]:g}"
        columns = {"pure": self.purity["pure"], "top_1": self.purity["top_1"]}
        for name, suffix in (("gap", ""), ("gap_pgd", "_pgd"), ("gap_gate_aware", "_gate_aware")):
            columns[name] = self.task.gaps[label + suffix]
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        return [{"level": self.level, **dict(zip(columns, row, strict=True))} for row in rows]


@dataclass(frozen=True)
class Inherit:
    """Trained groups by pre-training eps, built groups by the share of pure nodes."""

    trained: list[Group]
    built: list[Group]

    def rows(self) -> list[dict[str, Any]]:
        trained = [group.row("trained") for group in self.trained]
        built = [group.row("built") for group in self.built]
        return trained + built + self.correlations()

    def correlations(self) -> list[dict[str, Any]]:
        """Spearman's rank correlation of the gaps at the largest eps with each measure, over all networks."""
        rows = []
        for kind, groups in (("trained", self.trained), ("built", self.built)):
            if not groups:
                continue
            label = f"gap_{ATTACK_EPS[-1]:g}"
            names = [label, f"{label}_pgd", f"{label}_gate_aware"]
            gaps = {name: torch.cat([group.task.gaps[name] for group in groups]) for name in names}
            for name in ("top_1", "pure", "hoyer", "count"):
                values = torch.cat([group.purity[name].double() for group in groups])
                if len(values) > 3 and float(values.std()) > 0:
                    row: dict[str, Any] = {"lab": "inherit", "networks": kind, "rank_correlation_with": name}
                    rows.append(row | {gap: spearman(values, found) for gap, found in gaps.items()})
        return rows

    def points(self) -> dict[str, Any]:
        """Every network as a point of the page's figure: its measures and its gaps at the largest eps."""
        return {
            kind: [point for group in groups for point in group.points()]
            for kind, groups in (("trained", self.trained), ("built", self.built))
        }


def inherit(
    setting: SparseTraining,
    seeds: Sequence[int],
    builds: int = 10,
    *,
    epsilons: Sequence[float] = PRETRAIN_EPS,
    shares: Sequence[float] = SHARES,
    size: tuple[int, int] = SIZE,
    effort: Effort | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Inherit:
    """Pre-train at each eps with every seed, build networks with each share of pure nodes, train all heads.

    With more than two ``epsilons`` the largest is also trained after a third of the steps clean.
    """
    check_asked(epsilons, shares)
    require(all(0 <= share <= 1 for share in shares), "shares", "in [0, 1]", list(shares))
    judged = (attacks(effort or Effort()), size)
    trained = _pretrained(setting, epsilons, seeds, judged, progress) if epsilons else []
    building = range(seeds[0], seeds[0] + builds)
    return Inherit(trained, [_built(setting, share, building, judged) for share in shares])


def check_asked(epsilons: Sequence[float], shares: Sequence[float]) -> None:
    """Refuse to measure nothing."""
    words = "at least one where nothing is pre-trained"
    require(bool(epsilons) or bool(shares), "shares", words, list(shares))


def _pretrained(
    setting: SparseTraining,
    epsilons: Sequence[float],
    seeds: Sequence[int],
    judged: Judged,
    progress: Callable[[int, int, float], None] | None,
) -> list[Group]:
    runs = train(setting, epsilons, seeds, progress)
    groups = [_trained(f"eps {eps:g}", eps, runs, (runs.eps - eps).abs() < 1e-6, judged) for eps in epsilons]
    if len(epsilons) > 2:
        last = max(epsilons)
        later = train(replace(setting, clean_steps=setting.steps // 3), [last], seeds, progress)
        every = torch.ones(len(seeds), dtype=torch.bool)
        groups.append(_trained(f"clean first, then eps {last:g}", last, later, every, judged))
    return groups


def _trained(name: str, eps: float, runs: Trained, which: Tensor, judged: Judged) -> Group:
    index = which.nonzero().flatten()
    seeds = tuple(runs.seeds[i] for i in index.tolist())
    part = replace(runs, W=runs.W[index], M=runs.M[index], seeds=seeds)
    return Group(name, eps, part.purity(), downstream_of(part, *judged))


def _built(setting: SparseTraining, share: float, seeds: range, judged: Judged) -> Group:
    generators = [torch.Generator().manual_seed(seed_of(seed, "built", share)) for seed in seeds]
    M = torch.stack([random_dictionary(setting.data.d, generator) for generator in generators])
    W = M @ torch.stack(
        [mixture(setting.data.d, setting.nodes, share, generator) for generator in generators]
    )
    task = downstream(W, intercepts(W, setting.c_b), M, setting.data, seeds, judged[0], size=judged[1])
    return Group(f"{share:.0%} pure", share, purity(W, M), task)


def attacks(effort: Effort) -> Attacks:
    """FGM and the gate-aware attack along a curve of eps, PGD-20 at its end."""
    fgm, gate_aware = ({f"{eps:g}": eps for eps in radii} for radii in (ATTACK_EPS, GATE_AWARE_EPS))
    return Attacks(fgm, {f"{ATTACK_EPS[-1]:g}": ATTACK_EPS[-1]}, gate_aware, effort)
