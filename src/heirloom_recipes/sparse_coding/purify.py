"""Training that purifies, and where it does not (I8; open questions 2 and 3).

    heirloom theory sparse-coding purify --out runs/purify

Cost: 18 settings x 3 seeds, clean and adversarial, about 12 minutes of one thread (``--tiny``: seconds).
Expected: gate networks, square loss: top-1 energy share .23 clean, .68 after training at eps = .3; ReLU
and the settings named under ``doubtful`` show no such rise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.analysis.purification import node_purity
from heirloom.results.statistics import mean
from heirloom.runtime.randomness import seed_of
from heirloom.theory.sparse_coding.attack import contrastive_delta, fgm
from heirloom.theory.sparse_coding.downstream import SIZE, downstream_of
from heirloom.theory.sparse_coding.losses import (
    contrastive_score,
    intercepts,
    loss_of,
    output_layer,
    supervised_gradient,
)
from heirloom.theory.sparse_coding.network import activate
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom.theory.sparse_coding.training import Trained, draw_batch, train
from heirloom_recipes.sparse_coding.cases import Case
from heirloom_recipes.sparse_coding.intervals import interval
from heirloom_recipes.sparse_coding.tables import verdict

MEASURES = ("top_1", "hoyer", "count", "pure", "alignment")
TEST = 4000


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
                    for name in (*MEASURES, *(name for name in self.figures if name.startswith("gap")))
                }
                row["purifies"] = verdict(row["change"]["top_1"], up=True)
                row["inherits"] = verdict(row["change"]["gap_0.3"], up=False)
                row["inherits_pgd"] = verdict(row["change"]["gap_0.3_pgd"], up=False)
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
) -> Purified:
    """Train the case with every eps and seed, measure losses, purity and the downstream gap."""
    started = time.perf_counter()
    trained = train(case.setting, case.epsilons, seeds, progress)
    figures = losses(trained) | {name: trained.purity()[name] for name in MEASURES}
    scale = 50**-0.5 if case.setting.norm == "Linf" else 1.0  # the same L2 length at d = 50
    task = downstream_of(trained, (0.1 * scale, 0.3 * scale), size=size)
    figures |= {"downstream_clean": task.clean, "gap_0.1": task.gap[:, 0], "gap_0.3": task.gap[:, 1]}
    figures["gap_0.3_pgd"] = downstream_of(trained, (0.3 * scale,), 20, size).gap[:, 0]
    return Purified(case, trained, figures, time.perf_counter() - started)


@torch.no_grad()
def losses(trained: Trained) -> dict[str, Tensor]:
    """Test losses of the pre-training task itself, clean and under FGM of .1 and .3, (R,) each."""
    setting = replace(trained.setting, batch=TEST)
    generators = [torch.Generator().manual_seed(seed_of(seed, "purify-test")) for seed in trained.seeds]
    batch = draw_batch(setting, trained.M, generators)
    W, b = trained.W, intercepts(trained.W, setting.c_b)[:, None]
    if setting.loss == "contrastive":
        return _contrastive_losses(setting, W, b, batch)
    z, y = batch
    a, found = setting.a(), {}
    scale = 50**-0.5 if setting.norm == "Linf" else 1.0
    for eps, name in ((0.0, "clean"), (0.1, "adversarial_0.1"), (0.3, "adversarial_0.3")):
        radius = torch.full((len(W),), eps * scale)
        delta = fgm(lambda point: supervised_gradient(setting, W, a, b, point, y), z, radius, setting.norm)
        f = activate((z + delta) @ W, b, setting.activation)[0] @ a
        found[name] = loss_of(setting.loss, f, y)[0].mean(1)
    return found


def _contrastive_losses(
    setting: SparseTraining, W: Tensor, b: Tensor, batch: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    z, other, y = batch
    A, found, half = output_layer(setting, W), {}, y.shape[1] // 2
    for eps in (0.0, 0.1, 0.3):
        delta = contrastive_delta(setting, W, z, other, y, torch.full((len(W),), eps))
        loss = functional.softplus(-y * contrastive_score(setting, W, A, b, z + delta, other))
        found[f"similar_{eps:g}"] = loss[:, :half].mean(1)
        found[f"dissimilar_{eps:g}"] = loss[:, half:].mean(1)
    found["clean"] = (found.pop("similar_0") + found.pop("dissimilar_0")) / 2
    return found


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
