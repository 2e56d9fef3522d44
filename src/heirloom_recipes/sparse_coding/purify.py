"""Training that purifies, and where it does not (I8; open questions 2 and 3).

    heirloom theory sparse-coding purify --out runs/purify

Cost: 18 settings x 3 seeds, clean and adversarial, about 12 minutes of one thread (``--tiny``: seconds).
Expected: gate networks, square loss: top-1 energy share .23 clean, .68 after training at eps = .3; ReLU
and the settings named under ``doubtful`` show no such rise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heirloom.analysis.purification import node_purity
from heirloom.results.statistics import mean
from heirloom.theory.sparse_coding.downstream import SIZE, Attacks, Effort, downstream_of
from heirloom.theory.sparse_coding.training import Trained, train
from heirloom_recipes.sparse_coding.cases import Case
from heirloom_recipes.sparse_coding.cells import verdict
from heirloom_recipes.sparse_coding.intervals import interval
from heirloom_recipes.sparse_coding.own_task import losses

RADII = (0.01, 0.03, 0.1, 0.3)  # below, at and above the gate where c_b is .03
MEASURES = ("top_1", "hoyer", "count", "pure", "alignment")


@dataclass(frozen=True)
class Purified:
    """One case trained: ``figures[name]`` has one number per run; runs are ordered by eps, then seed."""

    case: Case
    trained: Trained
    figures: dict[str, Tensor]
    seconds: float

    def at(self, eps: float) -> Tensor:
        """Indices of the runs with this eps."""
        return (self.trained.eps - eps).abs().lt(1e-6).nonzero().flatten()

    def rows(self) -> list[dict[str, Any]]:
        """A row per eps: means over seeds; for eps > 0 also the paired change from clean training."""
        clean, rows = self.at(0.0), []
        for eps in self.case.epsilons:
            runs = self.at(eps)
            row: dict[str, Any] = {"lab": "purify", "case": self.case.name, "train_eps": round(eps, 6)}
            row |= {name: mean(values[runs]) for name, values in self.figures.items()}
            if eps > 0:
                row["change"] = {
                    name: interval(self.figures[name][runs] - self.figures[name][clean])
                    for name in (*MEASURES, *(name for name in self.figures if "gap" in name))
                }
                row["purifies"] = verdict(row["change"]["top_1"], up=True)
                row["inherits"] = verdict(row["change"]["gap_0.3"], up=False)
                row["inherits_pgd"] = verdict(row["change"]["gap_0.3_pgd"], up=False)
                row["inherits_truly"] = verdict(row["change"]["gap_0.3_gate_aware"], up=False)
            if eps in self.case.trial:
                row["trial"] = self.case.trial[eps]
            rows.append(row)
        return rows

    def drawing(self, *, matrices: bool = True) -> dict[str, Any]:
        """What the page draws: U of each eps (one seed), histograms of the top-1 share, curves over steps."""
        U = self.trained.U()
        first = [int(self.at(eps)[0]) for eps in self.case.epsilons]
        return {
            "epsilons": list(self.case.epsilons),
            "U": [picture(U[run]) for run in first] if matrices else [],
            "histogram": [histogram(U[self.at(eps)]) for eps in self.case.epsilons],
            "steps": self.trained.curves_at,
            "curves": {
                name: [self.trained.curves[name][self.at(eps)].mean(0).tolist() for eps in self.case.epsilons]
                for name in ("top_1", "hoyer", "count", "pure")
            },
        }


def purify(
    case: Case,
    seeds: Sequence[int],
    progress: Callable[[int, int, float], None] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    effort: Effort | None = None,
) -> Purified:
    """Train the case with every eps and seed, measure losses, purity and the downstream gap."""
    started = time.perf_counter()
    trained = train(case.setting, case.epsilons, seeds, progress)
    figures = losses(trained, effort or Effort()) | {name: trained.purity()[name] for name in MEASURES}
    scale = 50**-0.5 if case.setting.norm == "Linf" else 1.0  # the same L2 length at d = 50
    radii = {f"{eps:g}": eps * scale for eps in RADII}
    attacks = Attacks(radii, {"0.3": radii["0.3"]}, radii, effort or Effort())
    task = downstream_of(trained, attacks, size)
    figures |= {"downstream_clean": task.clean, **task.gaps}
    return Purified(case, trained, figures, time.perf_counter() - started)


def arranged(U: Tensor) -> Tensor:
    """abs(U) (d, H), each node over its largest entry, heaviest nodes first within their top feature."""
    size = U.abs()
    top = size.argmax(0)
    weight = size.square().sum(0)
    order = sorted(range(U.shape[1]), key=lambda h: (int(top[h]), -float(weight[h])))
    return (size / size.amax(0).clamp_min(1e-30))[:, order]


def picture(U: Tensor) -> str:
    """:func:`arranged` as an image (data URI), black for the largest entry of a node, four pixels an entry."""
    from heirloom.report.figures import image_uri

    return image_uri((1 - arranged(U)).repeat_interleave(4, 0).repeat_interleave(4, 1).numpy())


def histogram(U: Tensor) -> list[float]:
    """Share of the squared norm in nodes whose top-1 share lies in each of 20 equal bins of [0, 1]."""
    nodes = node_purity(U.mT)
    bins = (nodes.top_1 * 20).long().clamp_max(19)
    shares = torch.zeros(20, dtype=torch.float64).index_add(0, bins.flatten(), nodes.energy.flatten())
    return (shares / shares.sum()).tolist()
