"""Clean and adversarial training of two-layer networks on sparse coding data, many runs as one batch (I8).

A run is one (eps, seed). Runs of one seed share the dictionary M, the initial W and every training batch, so
they differ by the attack alone. Leading dimension of all tensors: the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.analysis.purification import in_features, node_purity
from heirloom.runtime.errors import require
from heirloom.runtime.randomness import seed_of
from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.losses import intercepts
from heirloom.theory.sparse_coding.model import class_targets, random_dictionary, regression_targets
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom.theory.sparse_coding.steps import contrastive_step, supervised_step

CHECKPOINTS = 25


@dataclass(frozen=True)
class Trained:
    """R trained networks. W (R, d, H), M (R, d, d), eps (R,), seeds (R,).

    ``curves`` maps a measure to one list per run, taken at the steps ``curves_at``; ``start`` is W before
    training.
    """

    setting: SparseTraining
    W: Tensor
    M: Tensor
    eps: Tensor
    seeds: tuple[int, ...]
    start: Tensor
    curves_at: list[int]
    curves: dict[str, Tensor]

    @property
    def b(self) -> Tensor:
        return intercepts(self.W, self.setting.c_b)

    def U(self) -> Tensor:  # noqa: N802 (the paper's name)
        """Strength of each feature in each node, M^T W (R, d, H)."""
        return self.M.mT @ self.W

    def purity(self) -> dict[str, Tensor]:
        """Each measure of ``heirloom.analysis.purification`` by its name, (R,)."""
        return purity(self.W, self.M)


def train(
    setting: SparseTraining,
    epsilons: Sequence[float],
    seeds: Sequence[int],
    progress: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Train one run for each eps and seed: Adam, rate falling to 0 along a cosine, a fresh batch every step.

    Args:
        epsilons: attack radii, 0 for clean training.
        progress: called with (steps done, steps in all, mean training loss).
    """
    require(len(epsilons) > 0 and min(epsilons) >= 0, "epsilons", "numbers of at least 0", list(epsilons))
    generators = [torch.Generator().manual_seed(seed_of(seed, "purify")) for seed in seeds]
    d = setting.data.d
    M = torch.stack([random_dictionary(d, generator) for generator in generators])
    start = torch.stack([_start(setting, M[index], generator) for index, generator in enumerate(generators)])
    run_seed = torch.arange(len(seeds)).repeat(len(epsilons))
    eps = torch.tensor(epsilons, dtype=torch.float32).repeat_interleave(len(seeds))
    W = start[run_seed].clone().requires_grad_()
    optimizer = torch.optim.Adam([W], lr=setting.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    step_loss = contrastive_step if setting.loss == "contrastive" else supervised_step
    curves: dict[str, list[Tensor]] = {}
    at = []
    every = max(1, setting.steps // CHECKPOINTS)
    for step in range(setting.steps + 1):
        if step % every == 0 or step == setting.steps:
            at.append(step)
            for name, value in purity(W, M[run_seed]).items():
                curves.setdefault(name, []).append(value)
        if step == setting.steps:
            break
        batch = draw_batch(setting, M, generators)
        now = eps if step >= setting.clean_steps else torch.zeros_like(eps)
        optimizer.zero_grad()
        loss = step_loss(setting, W, tuple(part[run_seed] for part in batch), now)
        optimizer.step()
        schedule.step()
        if progress is not None and (step + 1) % every == 0:
            progress(step + 1, setting.steps, float(loss.mean()))
    stacked = {name: torch.stack(values, 1) for name, values in curves.items()}
    run_seeds = tuple(seeds[index] for index in run_seed.tolist())
    return Trained(setting, W.detach(), M[run_seed], eps, run_seeds, start[run_seed], at, stacked)


def _start(setting: SparseTraining, M: Tensor, generator: torch.Generator) -> Tensor:
    d, nodes = setting.data.d, setting.nodes
    if setting.init is None:
        return setting.theta * M @ built_network(d, nodes, setting.start_m, generator, "exact").dense()
    return setting.init / d**0.5 * torch.randn(d, nodes, generator=generator)


def draw_batch(
    setting: SparseTraining, M: Tensor, generators: Sequence[torch.Generator]
) -> tuple[Tensor, ...]:
    """One batch for each seed: (z, y), or (z, z', y) for the contrastive loss; leading dimension: seeds."""
    draws = [_draw(setting, M[index], generator) for index, generator in enumerate(generators)]
    return tuple(torch.stack(part) for part in zip(*draws, strict=True))


def _draw(setting: SparseTraining, M: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    x = setting.data.features(setting.batch, generator)
    if setting.loss == "contrastive":
        z, similar, dissimilar = setting.data.views(x, M, generator)
        y = torch.ones(setting.batch)  # the expectation over Y = +-1, not a draw of it
        return torch.cat([z, z]), torch.cat([similar, dissimilar]), torch.cat([y, -y])
    theta = torch.full((setting.data.d,), setting.theta)
    if setting.loss == "logistic":
        y = class_targets(x, theta, generator)
    else:
        y = regression_targets(x, theta, setting.sigma, generator)
    return setting.data.observe(x, M, generator), y


def purity(W: Tensor, M: Tensor) -> dict[str, Tensor]:
    """Norm-weighted measures of each run (R,): see ``heirloom.analysis.purification``."""
    return node_purity(in_features(W.detach().mT, M)).weighted()
