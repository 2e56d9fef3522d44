"""Figure 3: how features are learned under standard and adversarial training (row F5).

``heirloom theory patches phases --out runs/phases``: 3 s for the noiseless sweep over 20 seeds, 25 s for the
noisy figure of 3 seeds (one CPU thread). Expected: standard training ends at robust accuracy 0, adversarial
training at 1 after two phases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.theory.patches.curves import ROBUST, Curves, Phases, Recorder, detect_phases, join_curves
from heirloom.theory.patches.model import PatchDistribution, noiseless
from heirloom.theory.patches.training import (
    OBJECTIVES,
    PatchTraining,
    initial_networks,
    population_batch,
    sampled_batches,
    train_networks,
)

NOISY = PatchDistribution()
NOISELESS_STEPS = {"standard": 300, "adversarial": 1200}
FILTERS = 60  # a class: both trainings end as the paper says in 99 of 100 seeds
EDGE_FILTERS = 30  # nine seeds in ten: the edge of where the claims hold
NOISY_STEPS = {"standard": 300, "adversarial": 700}
SIZES = (25, 50)  # training and test points of the noisy figure


@dataclass(frozen=True)
class PhaseRun:
    """One kind of training over S seeds: its curves, ``weights`` (S, k, m, d) at the end, and how many test
    points an accuracy is the mean of."""

    data: str
    training: PatchTraining
    seeds: list[int]
    curves: Curves
    weights: Tensor
    points: int

    @property
    def phases(self) -> list[Phases]:
        return [detect_phases(self.curves, run) for run in range(len(self.seeds))]

    @property
    def ends_robust(self) -> Tensor:
        return self.curves.robust[-1] >= ROBUST

    @property
    def ends_at_zero(self) -> Tensor:
        return self.curves.robust[-1] == 0


def noiseless_run(
    training: PatchTraining, seeds: list[int], distribution: PatchDistribution, every: int = 10
) -> PhaseRun:
    """Train on the exact population, all seeds at once; accuracies are those of the population."""
    batch = population_batch(distribution, len(seeds))
    recorder = Recorder(batch, training, distribution.features())
    weights = initial_networks(distribution, training, seeds)
    weights = train_networks(weights, batch, training, recorder, every)
    return PhaseRun("noiseless", training, seeds, recorder.curves(), weights, distribution.classes)


def noisy_run(
    training: PatchTraining,
    seeds: list[int],
    distribution: PatchDistribution = NOISY,
    every: int = 10,
    sizes: tuple[int, int] = SIZES,
) -> PhaseRun:
    """Train on ``sizes[0]`` sampled points, measure on ``sizes[1]`` others, seed by seed."""
    parts, weights = [], []
    for seed in seeds:
        train, test = sampled_batches(distribution, sizes, data_generator(seed))
        recorder = Recorder(test, training, distribution.features())
        start = initial_networks(distribution, training, [seed])
        weights.append(train_networks(start, train, training, recorder, every))
        parts.append(recorder.curves())
    return PhaseRun("noisy", training, seeds, join_curves(parts), torch.cat(weights), sizes[1])


def data_generator(seed: int) -> torch.Generator:
    """The stream that a seed's data come from; its initial weights come from another."""
    return torch.Generator().manual_seed(seed + 1_000_003)


def phase_runs(
    seeds: list[int],
    noisy_seeds: list[int],
    *,
    training: PatchTraining | None = None,
    distribution: PatchDistribution = NOISY,
    objectives: tuple[str, ...] = OBJECTIVES,
    edge_filters: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> list[PhaseRun]:
    """All of Figure 3: standard training and adversarial training with each objective, noiseless over
    ``seeds``; standard training and the first objective, noisy over ``noisy_seeds``; and, with ``edge_filters``
    filters a class, noiseless over ``seeds``."""
    runs = []
    for objective in ("none", *objectives):
        note(f"noiseless, {objective}")
        chosen = _with_steps(training, objective, NOISELESS_STEPS)
        runs.append(noiseless_run(chosen, seeds, noiseless(distribution)))
    for objective in ("none", objectives[0]) if noisy_seeds else ():
        note(f"noisy, {objective}")
        runs.append(noisy_run(_with_steps(training, objective, NOISY_STEPS), noisy_seeds, distribution))
    for objective in ("none", objectives[0]) if edge_filters else ():
        note(f"noiseless, {objective}, {edge_filters} filters")
        chosen = replace(_with_steps(training, objective, NOISELESS_STEPS), filters=edge_filters)
        runs.append(noiseless_run(chosen, seeds, noiseless(distribution)))
    return runs


def _with_steps(training: PatchTraining | None, objective: str, steps: dict[str, int]) -> PatchTraining:
    chosen = replace(training or PatchTraining(), objective=objective)
    return replace(chosen, steps=steps[chosen.kind])
