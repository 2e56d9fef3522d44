"""``heirloom theory sparse-coding``: purification and inheritance (Xing et al., AISTATS 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli.options import ResultFolder as Out
from heirloom.cli.options import Resume, Seed, files_written
from heirloom.cli.shared import App

if TYPE_CHECKING:
    from heirloom_recipes.sparse_coding.experiments import Sizes

Tiny = Annotated[bool, typer.Option(help="Small sizes: shows in seconds that it runs; figures mean nothing.")]
Seeds = Annotated[int, typer.Option(help="Training runs per eps.")]
Points = Annotated[int, typer.Option(help="Test points that the gate-aware attack sees.")]
Restarts = Annotated[
    int, typer.Option(help="Random starts of the gate-aware attack, beside the clean point.")
]
Steps = Annotated[int | None, typer.Option(help="Training steps, where not each training's own.")]
HOME = Path("runs/sparse-coding")

sparse_coding_app = App(
    help="Sparse coding: purification, simulated and trained. Without a command: all.",
)


@sparse_coding_app.callback(invoke_without_command=True)
def everything(
    context: typer.Context, out: Out = HOME, seed: Seed = 0, resume: Resume = False, tiny: Tiny = False
) -> None:
    """Sparse coding: purification, simulated and trained. Without a command: all (about half an hour)."""
    if context.invoked_subcommand is None:
        from heirloom_recipes.sparse_coding.experiments import LABS, Sizes
        from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

        run(LABS, tiny_sizes() if tiny else Sizes(), seed, out, resume)
    elif context.get_parameter_source("out").name == "COMMANDLINE":  # type: ignore[union-attr]
        raise typer.BadParameter("give --out after the experiment's name", param_hint="--out")


@sparse_coding_app.command("figure-4")
def figure_4(
    out: Out = HOME / "figure-4",
    seed: Seed = 0,
    resume: Resume = False,
    repeats: Annotated[int, typer.Option(help="Repeats of each level.")] = 30,
    d: Annotated[int, typer.Option("--d", help="Features.")] = 1000,
    k: Annotated[float, typer.Option("--k", help="Expected active features.")] = 10,
    zeta: Annotated[float, typer.Option(help="Noise level.")] = 0.005,
    nodes: Annotated[int, typer.Option(help="Hidden nodes H.")] = 10_000,
    samples: Annotated[int, typer.Option(help="Examples of each repeat.")] = 1000,
    m: Annotated[str, typer.Option("--m", help="Features per node, by commas.")] = "1,2,5,10",
    eps: Annotated[float, typer.Option(help="Radius of the attack (L2).")] = 0.1,
    gate: Annotated[
        str, typer.Option(help="Intercept b: fitted, or as the text has it: printed.")
    ] = "fitted",
    noise: Annotated[
        str, typer.Option(help="Variance of a coordinate of the noise: zeta^2/d or zeta^2.")
    ] = "zeta^2/d",
    kind: Annotated[str, typer.Option(help="Networks: random, exact or grouped.")] = "random",
    tau: Annotated[
        float | None, typer.Option(help="Scale of A = tau W^+; the square root of 5 by default.")
    ] = None,
    b_scale: Annotated[float, typer.Option(help="Factor of the fitted intercept.")] = 0.1,
    theta: Annotated[float, typer.Option(help="U 1 = theta: the strength of every feature.")] = 1.0,
    frozen_gates: Annotated[bool, typer.Option(help="Keep the clean gates under attack.")] = False,
    variant_repeats: Annotated[
        int, typer.Option(help="Repeats of the text's other readings; 0: leave them out.")
    ] = 5,
    tiny: Tiny = False,
) -> None:
    """Figure 4 and Tables 6 to 8: contrastive losses of built networks against the features per node."""
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes
    from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting

    choices: dict[str, Any] = {"gate": gate, "noise": noise, "kind": kind}  # the setting checks them
    sizes: dict[str, Any] = {
        "d": d,
        "k": k,
        "zeta": zeta,
        "nodes": nodes,
        "samples": samples,
        "repeats": repeats,
    }
    sizes |= {"b_scale": b_scale, "theta": theta, **({} if tau is None else {"tau": tau})}
    setting = Figure4Setting(**sizes, ms=levels(m), eps=eps, frozen_gates=frozen_gates, **choices)
    run(["figure-4"], tiny_sizes() if tiny else Sizes(setting, variant_repeats), seed, out, resume)


@sparse_coding_app.command()
def purify(
    out: Out = HOME / "purify",
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = 3,
    steps: Steps = None,
    cases: Annotated[
        str, typer.Option(help="Only these trainings: names, or parts of them, with ; between.")
    ] = "",
    points: Points = 500,
    restarts: Restarts = 1,
    tiny: Tiny = False,
) -> None:
    """Training, clean and adversarial: which losses, activations and attacks purify the nodes."""
    from heirloom.theory.sparse_coding.downstream import Effort
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

    sizes = Sizes(seeds=seeds, steps=steps, cases=cases, effort=Effort(points, restarts))
    run(["purify"], tiny_sizes() if tiny else sizes, seed, out, resume)


@sparse_coding_app.command()
def inherit(
    out: Out = HOME / "inherit",
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = 5,
    steps: Steps = None,
    builds: Annotated[int, typer.Option(help="Built networks for each share of pure nodes.")] = 10,
    pretrain_eps: Annotated[
        str, typer.Option(help="Radii of pre-training, by commas; empty: train none.")
    ] = "0,0.05,0.1,0.15,0.2,0.3,0.5",
    shares: Annotated[
        str, typer.Option(help="Shares of pure nodes, by commas; empty: build none.")
    ] = "0,0.1,0.25,0.5,0.75,0.9,1",
    points: Points = 500,
    restarts: Restarts = 1,
    tiny: Tiny = False,
) -> None:
    """Downstream: the gap L_eps - L_0 of clean-trained heads against the purity of the frozen nodes."""
    from heirloom.theory.sparse_coding.downstream import Effort
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

    lists: dict[str, Any] = {
        "pretrain_eps": numbers(pretrain_eps, "pretrain_eps"),
        "shares": numbers(shares, "shares"),
    }
    effort = Effort(points, restarts)
    sizes = Sizes(inherit_seeds=seeds, steps=steps, builds=builds, effort=effort, **lists)
    run(["inherit"], tiny_sizes() if tiny else sizes, seed, out, resume)


@sparse_coding_app.command()
def lemma(
    out: Out = HOME / "lemma",
    seed: Seed = 0,
    resume: Resume = False,
    inputs: Annotated[int, typer.Option(help="Draws of x on each network.")] = 300,
    tiny: Tiny = False,
) -> None:
    """Lemma 4.2's bounds on random, exact-m and grouped networks."""
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

    run(["lemma"], tiny_sizes() if tiny else Sizes(inputs=inputs), seed, out, resume)


@sparse_coding_app.command()
def theorem(out: Out = HOME / "theorem", seed: Seed = 0, resume: Resume = False, tiny: Tiny = False) -> None:
    """Statement by statement: equation (2), Lemmas F.3, F.4, 5.1, Theorems 5.2, A.1, A.2 and more, measured."""
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

    run(["theorem"], tiny_sizes() if tiny else Sizes(), seed, out, resume)


def levels(text: str) -> tuple[int, ...]:
    """``"1,2,5"`` as numbers."""
    from heirloom.runtime.errors import require

    parts = text.split(",")
    require(all(part.strip().isdigit() for part in parts), "m", "whole numbers such as 1,2,5,10", text)
    return tuple(sorted({int(part) for part in parts}))


def numbers(text: str, argument: str) -> tuple[float, ...]:
    """``"0,0.3"`` as numbers; empty text as none."""
    from heirloom.runtime.errors import reject

    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        reject(argument, "numbers such as 0,0.3", text)


def run(names: Sequence[str], sizes: Sizes, seed: int, out: Path, resume: bool) -> None:
    """Run, print the tables, say where the JSON and the page lie."""
    from heirloom.cli.output import print_table
    from heirloom.cli.progress import stage_progress
    from heirloom_recipes.sparse_coding.experiments import run_labs
    from heirloom_recipes.sparse_coding.page import lead
    from heirloom_recipes.sparse_coding.tables import tables

    with stage_progress() as progress:
        summary = run_labs(names, sizes, seed, out, resume=resume, progress=progress)
    for found in tables(summary.rows).values():
        for title, columns, cells in found:
            print_table(title, columns, cells)
    print(lead(summary))
    files_written(summary, out)
