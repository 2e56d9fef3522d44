"""The experiments by name, and their findings as one summary and one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heirloom.report import page
from heirloom.results.schema import Summary
from heirloom.runs import Run
from heirloom.theory.patches.model import PatchDistribution
from heirloom.theory.patches.training import PatchTraining
from heirloom_recipes.patches.attack_table import attack_experiment, attack_section
from heirloom_recipes.patches.figure3 import phase_experiment, phase_section
from heirloom_recipes.patches.growth import growth_section
from heirloom_recipes.patches.minima import minima_section
from heirloom_recipes.patches.perturbation import perturbation_experiment, perturbation_section
from heirloom_recipes.patches.phases import NOISY, NOISY_STEPS, PhaseRun, noisy_run, phase_runs
from heirloom_recipes.patches.regime_page import regime_section
from heirloom_recipes.patches.result import ExperimentResult

SECTIONS = {
    "phases": phase_section,
    "growth": growth_section,
    "minima": minima_section,
    "perturbation": perturbation_section,
    "attacks": attack_section,
    "regime": regime_section,
}
TITLE = "The patch-data laboratory: how robust and non-robust features are learned"
LEAD = (
    "Patch data hold a strong but sparse feature (robust) and a weak but dense one (non-robust). Standard "
    "training learns the dense one and can be attacked; adversarial training learns it first, then the "
    "strong one. Simulation of Li and Li, arXiv 2410.08503."
)
Note = Callable[[str], None]


def noisy_pair(seeds: list[int], filters: int, note: Note) -> list[PhaseRun]:
    """Noisy standard and adversarial training (margin) over the same seeds, of ``filters`` filters a class."""
    runs = []
    for objective, kind in (("none", "standard"), ("margin", "adversarial")):
        note(f"noisy, {objective}")
        training = PatchTraining(objective, NOISY_STEPS[kind], filters=filters)
        runs.append(noisy_run(training, seeds, NOISY))
    return runs


def phases(
    seeds: list[int],
    noisy_seeds: list[int],
    training: PatchTraining,
    distribution: PatchDistribution,
    note: Note,
    edge_filters: int = 0,
) -> ExperimentResult:
    runs = phase_runs(
        seeds,
        noisy_seeds,
        training=training,
        distribution=distribution,
        edge_filters=edge_filters,
        note=note,
    )
    return phase_experiment(runs)


def perturbation(seeds: list[int], filters: int, note: Note) -> ExperimentResult:
    return perturbation_experiment(noisy_pair(seeds, filters, note))


def attacks(seeds: list[int], note: Note) -> ExperimentResult:
    note("attacks on hand-built and trained networks")
    return attack_experiment(seeds)


def run_experiments(
    make: Mapping[str, Callable[[], ExperimentResult]],
    settings: Mapping[str, Any],
    seed: int,
    out: Path,
    *,
    resume: bool = False,
) -> Summary:
    """Run the experiments of ``make``, by name, into ``out``; ``settings`` are all that decides their numbers.

    Every row names its experiment, details are kept by experiment. Finished experiments are kept; ``resume``
    goes on after them.
    """
    run = Run(out, {"experiments": list(make), "settings": dict(settings), "seed": seed}, resume=resume)

    def stage(name: str) -> Any:
        def made() -> dict[str, Any]:
            found = make[name]()
            return {"rows": found.rows, "details": found.details}

        return run.stage(name, made)

    found = {name: stage(name) for name in make}
    return run.finish(
        "patches",
        [row for part in found.values() for row in part["rows"]],
        seed=seed,
        settings=settings,
        details={name: part["details"] for name, part in found.items()},
    )


def patches_page(summary: Summary) -> str:
    """The page, drawn from the summary alone."""
    sections = [draw(summary.details[name]) for name, draw in SECTIONS.items() if name in summary.details]
    return page(TITLE, LEAD, sections, summary)
