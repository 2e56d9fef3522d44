"""``heirloom theory patches``: the patch-data experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli.options import ResultFolder as Out
from heirloom.cli.options import Resume, files_written
from heirloom.cli.progress import note
from heirloom.cli.shared import App

if TYPE_CHECKING:
    from collections.abc import Callable

    from heirloom_recipes.patches.phases import PhaseRun
    from heirloom_recipes.patches.result import ExperimentResult

Seed = Annotated[int, typer.Option(min=0, help="The first seed.")]
Seeds = Annotated[int, typer.Option(min=1, help="Networks, each with its own seed.")]

patches_app = App(
    help="Patch data: how robust and non-robust features are learned (bare: all experiments, 3 minutes).",
    invoke_without_command=True,
)


@patches_app.callback()
def patches(
    context: typer.Context, out: Out = Path("runs/patches"), seed: Seed = 0, resume: Resume = False
) -> None:
    """Patch data: how robust and non-robust features are learned. Without a command: all experiments."""
    from functools import cache

    import torch

    # networks this small lose more to the threads' waiting for each other than they gain
    torch.set_num_threads(1)
    if context.invoked_subcommand is not None:
        return
    from heirloom.theory.patches.training import PatchTraining
    from heirloom_recipes.patches import experiments
    from heirloom_recipes.patches.figure3 import phase_experiment
    from heirloom_recipes.patches.growth import growth_experiment
    from heirloom_recipes.patches.minima import minima_experiment
    from heirloom_recipes.patches.perturbation import perturbation_experiment
    from heirloom_recipes.patches.phases import EDGE_FILTERS, FILTERS, phase_runs
    from heirloom_recipes.patches.regime import regime_experiment

    training, note = PatchTraining(filters=FILTERS), _note

    @cache
    def runs() -> list[PhaseRun]:
        noisy = _seeds(seed, 3)
        return phase_runs(_seeds(seed, 20), noisy, training=training, edge_filters=EDGE_FILTERS, note=note)

    make = {
        "phases": lambda: phase_experiment(runs()),
        "growth": lambda: growth_experiment(_seeds(seed, 20)),
        "minima": minima_experiment,
        "perturbation": lambda: perturbation_experiment([run for run in runs() if run.data == "noisy"]),
        "attacks": lambda: experiments.attacks(_seeds(seed, 4), note),
        "regime": lambda: regime_experiment(2, first_seed=seed, note=note),
    }
    _run(make, {"experiments": "all"}, seed, out, resume)


@patches_app.command()
def phases(
    out: Out = Path("runs/patches/phases"),
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = 20,
    noisy_seeds: Annotated[int, typer.Option(min=0, help="Networks on noisy data; 0 leaves them out.")] = 3,
    edge_filters: Annotated[
        int, typer.Option(min=0, help="Filters of the narrower networks shown beside; 0 leaves them out.")
    ] = 30,
    eps: Annotated[float, typer.Option(help="Linf radius on every patch.")] = 0.55,
    alpha: Annotated[float, typer.Option(help="Strength of the robust feature.")] = 4.0,
    beta: Annotated[float, typer.Option(help="Strength of the non-robust feature.")] = 1.0,
    patches: Annotated[int, typer.Option(help="Patches of a data point.")] = 140,
    robust_patches: Annotated[int, typer.Option(help="How many of them carry the robust feature.")] = 1,
    rho: Annotated[float, typer.Option(help="Where the smoothed ReLU becomes linear.")] = 20.0,
    ascent_step: Annotated[float, typer.Option(help="Step size of the gradient ascent (eta~).")] = 2000.0,
    filters: Annotated[int, typer.Option(help="Filters a class.")] = 60,
) -> None:
    """Figure 3: standard and adversarial training, three ascent objectives, the phases seed by seed."""
    from heirloom.theory.patches.model import PatchDistribution
    from heirloom.theory.patches.training import PatchTraining
    from heirloom_recipes.patches import experiments

    distribution = PatchDistribution(patches=patches, robust_patches=robust_patches, alpha=alpha, beta=beta)
    training = PatchTraining(eps=eps, rho=rho, ascent_step=ascent_step, filters=filters)
    edge = 0 if edge_filters == filters else edge_filters
    settings = {"seeds": seeds, "noisy seeds": noisy_seeds, "eps": eps, "alpha": alpha, "beta": beta}
    settings |= {"patches": patches, "robust patches": robust_patches, "rho": rho, "ascent step": ascent_step}
    settings |= {"filters": filters, "edge filters": edge}
    make = {
        "phases": lambda: experiments.phases(
            _seeds(seed, seeds), _seeds(seed, noisy_seeds), training, distribution, _note, edge
        )
    }
    _run(make, settings, seed, out, resume)


@patches_app.command()
def growth(
    out: Out = Path("runs/patches/growth"),
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = 20,
    filters: Annotated[int, typer.Option(min=1, help="Filters a class.")] = 60,
) -> None:
    """Lemmas 5.1, 5.2 and B.2: increments and takeover times, predicted and simulated."""
    from heirloom_recipes.patches.growth import growth_experiment

    make = {"growth": lambda: growth_experiment(_seeds(seed, seeds), filters=filters)}
    _run(make, {"seeds": seeds, "filters": filters}, seed, out, resume)


@patches_app.command()
def minima(
    out: Out = Path("runs/patches/minima"),
    resume: Resume = False,
    eps: Annotated[float, typer.Option(help="Linf radius on every patch.")] = 0.52,
) -> None:
    """Propositions 3.1 and 3.2: non-robust and robust global minima, by enumeration and closed form."""
    from heirloom.theory.patches.training import PatchTraining
    from heirloom_recipes.patches.minima import minima_experiment

    PatchTraining(eps=eps)  # a wrong eps is told before a folder is made
    _run({"minima": lambda: minima_experiment(eps=eps)}, {"eps": eps}, 0, out, resume)


@patches_app.command()
def perturbation(
    out: Out = Path("runs/patches/perturbation"),
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = 3,
    filters: Annotated[int, typer.Option(min=1, help="Filters a class.")] = 60,
) -> None:
    """Theorem 4.3's perturbation, which knows no model, and feature-learning accuracy."""
    from heirloom_recipes.patches import experiments

    make = {"perturbation": lambda: experiments.perturbation(_seeds(seed, seeds), filters, _note)}
    _run(make, {"seeds": seeds, "filters": filters}, seed, out, resume)


@patches_app.command()
def attacks(
    out: Out = Path("runs/patches/attacks"), seed: Seed = 0, resume: Resume = False, seeds: Seeds = 4
) -> None:
    """What weaker attacks would have reported, beside the truth by enumeration."""
    from heirloom_recipes.patches import experiments

    make = {"attacks": lambda: experiments.attacks(_seeds(seed, seeds), _note)}
    _run(make, {"seeds": seeds}, seed, out, resume)


@patches_app.command()
def regime(
    out: Out = Path("runs/patches/regime"), seed: Seed = 0, resume: Resume = False, seeds: Seeds = 2
) -> None:
    """Where robust training can succeed: the derived inequality over simulated phase diagrams."""
    from heirloom_recipes.patches.regime import regime_experiment

    make = {"regime": lambda: regime_experiment(seeds, first_seed=seed, note=_note)}
    _run(make, {"seeds a cell": seeds}, seed, out, resume)


def _seeds(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def _note(stage: str) -> None:
    note(f"heirloom: {stage}")


def _run(
    make: dict[str, Callable[[], ExperimentResult]],
    settings: dict[str, Any],
    seed: int,
    out: Path,
    resume: bool,
) -> None:
    """Run, print every table, say where the JSON and the page lie."""
    from heirloom.cli.output import print_table
    from heirloom_recipes.patches.experiments import run_experiments

    summary = run_experiments(make, settings, seed, out, resume=resume)
    for details in summary.details.values():
        for shown in details["tables"]:
            print_table(shown["caption"], shown["columns"], shown["rows"])
            print()
    files_written(summary, out)
