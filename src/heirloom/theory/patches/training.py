"""Standard and adversarial training of patch networks, many at once, with gradients by hand.

Li and Li, arXiv 2410.08503, Sections 2.4 and 2.5: full-batch gradient descent on cross-entropy; adversarial
training moves every patch first by one raw gradient-ascent step from the clean point, clipped at eps.

Both engines are this one function. The noiseless population is k points of two patches with multiplicities
(``heirloom.theory.patches.model.population``), which is exact: equal patches get equal gradients. Sampled data are
points of P patches that occur once each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.runtime.errors import require
from heirloom.theory.patches.model import PatchDistribution, population, sample_patches
from heirloom.theory.patches.network import (
    Number,
    initial_filters,
    patch_input_gradient,
    patch_logits,
    patch_weight_gradient,
)

OBJECTIVES = ("margin", "cross-entropy", "true-score")


@dataclass(frozen=True)
class PatchTraining:
    """How a patch network is trained; the defaults show both phases (``docs/patches.md``).

    ``objective`` is what the ascent step raises: ``margin`` max_j F_j - F_y, ``cross-entropy``,
    ``true-score`` -F_y (the paper's simplification), or ``none`` for standard training. ``ascent_step`` is
    the paper's eta~; ``deviation`` that of the initial weights. eps, rho and ascent_step may be tensors
    (S, 1, 1).
    """

    objective: str = "none"
    steps: int = 300
    learning_rate: float = 1.0
    ascent_step: Number = 2000.0
    eps: Number = 0.55
    rho: Number = 20.0
    q: int = 3
    filters: int = 30
    deviation: float = 0.1

    def __post_init__(self) -> None:
        names = ("none", *OBJECTIVES)
        require(self.objective in names, "objective", f"one of {', '.join(names)}", self.objective)
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        require(self.filters >= 1, "filters", "at least 1", self.filters)
        for name in ("learning_rate", "ascent_step", "eps", "rho", "deviation"):
            value = torch.as_tensor(getattr(self, name))
            require(bool((value > 0).all()), name, "above 0", value.min().item())

    @property
    def kind(self) -> str:
        return "standard" if self.objective == "none" else "adversarial"


@dataclass(frozen=True)
class Batch:
    """Data for S networks: x (S, N, T, d), y (N,), and how often each patch occurs, counts (S or 1, T)."""

    x: Tensor
    y: Tensor
    counts: Tensor
    classes: int

    @property
    def onehot(self) -> Tensor:
        return functional.one_hot(self.y, self.classes).to(self.x)


def population_batch(distribution: PatchDistribution, runs: int) -> Batch:
    x, y, counts = population(distribution)
    return Batch(x.expand(runs, -1, -1, -1), y, counts[None], distribution.classes)


def sampled_batches(
    distribution: PatchDistribution, sizes: tuple[int, ...], generator: torch.Generator
) -> list[Batch]:
    """One network's data sets of these sizes (training, test, ...)."""
    samples = [sample_patches(distribution, n, generator) for n in sizes]
    once = torch.ones(1, distribution.patches)
    return [Batch(sample.x[None], sample.y, once, distribution.classes) for sample in samples]


def initial_networks(distribution: PatchDistribution, training: PatchTraining, seeds: list[int]) -> Tensor:
    """Filters (S, k, m, d), one network a seed."""
    k, d = distribution.classes, distribution.dimension
    networks = [
        initial_filters(torch.Generator().manual_seed(seed), k, training.filters, d, training.deviation)
        for seed in seeds
    ]
    return torch.stack(networks)


def ascent_coefficient(logits: Tensor, onehot: Tensor, objective: str) -> Tensor:
    """The gradient of what the ascent step raises with respect to the logits (S, N, k)."""
    if objective == "margin":
        others = logits.masked_fill(onehot.bool(), float("-inf"))
        return functional.one_hot(others.argmax(-1), logits.shape[-1]).to(logits) - onehot
    if objective == "cross-entropy":
        return logits.softmax(-1) - onehot
    return -onehot.expand_as(logits)


def training_attack(weight: Tensor, batch: Batch, training: PatchTraining) -> Tensor:
    """The clean points plus clip(eta~ gradient, +-eps), (S, N, T, d); standard training keeps them clean."""
    if training.objective == "none":
        return batch.x
    logits, slope = patch_logits(weight, batch.x, batch.counts, training.rho, training.q)
    coefficient = ascent_coefficient(logits, batch.onehot, training.objective)
    gradient = patch_input_gradient(weight, slope, coefficient).flatten(1, 2)
    step = gradient.mul_(training.ascent_step)
    eps = torch.as_tensor(training.eps, dtype=step.dtype)
    return batch.x + step.minimum(eps).maximum(-eps).view_as(batch.x)


def descend(weight: Tensor, batch: Batch, training: PatchTraining) -> Tensor:
    """One step of gradient descent on the mean cross-entropy at the attacked points."""
    x = training_attack(weight, batch, training)
    logits, slope = patch_logits(weight, x, batch.counts, training.rho, training.q)
    error = (logits.softmax(-1) - batch.onehot) / len(batch.y)
    return weight - training.learning_rate * patch_weight_gradient(slope, x, batch.counts, error)


def train_networks(
    weight: Tensor,
    batch: Batch,
    training: PatchTraining,
    record: Callable[[int, Tensor], None] | None = None,
    every: int = 10,
) -> Tensor:
    """Train S networks (S, k, m, d) from ``weight``.

    ``record(step, weight)`` is called at step 0, every so many steps and at the end.
    """
    for step in range(training.steps + 1):
        if record is not None and (step % every == 0 or step == training.steps):
            record(step, weight)
        if step < training.steps:
            weight = descend(weight, batch, training)
    return weight
