"""``heirloom theory sparse-coding``: purification and inheritance (Xing et al., AISTATS 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli.options import ResultFolder as Out
from heirloom.cli.options import Resume, Seed, files_written
from heirloom.cli.shared import App

if TYPE_CHECKING:
    from heirloom_recipes.sparse_coding.experiments import Sizes

# None: as the sizes have it, the full ones or those of --tiny
Tiny = Annotated[
    bool, typer.Option(help="Small sizes where no option says otherwise: seconds; figures mean nothing.")
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Training runs per eps [default: 3].")]
Points = Annotated[
    int | None, typer.Option(help="Test points that the gate-aware attack sees [default: 500].")
]
Restarts = Annotated[
    int | None,
    typer.Option(help="Random starts of the gate-aware attack, beside the clean point [default: 1]."),
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
        return
    for name in ("out", "seed", "resume", "tiny"):
        if context.get_parameter_source(name).name == "COMMANDLINE":  # type: ignore[union-attr]
            raise typer.BadParameter(f"give --{name} after the experiment's name", param_hint=f"--{name}")


@sparse_coding_app.command("figure-4")
def figure_4(
    out: Out = HOME / "figure-4",
    seed: Seed = 0,
    resume: Resume = False,
    repeats: Annotated[int | None, typer.Option(help="Repeats of each level [default: 30].")] = None,
    d: Annotated[int | None, typer.Option("--d", help="Features [default: 1000].")] = None,
    k: Annotated[float | None, typer.Option("--k", help="Expected active features [default: 10].")] = None,
    zeta: Annotated[float | None, typer.Option(help="Noise level [default: 0.005].")] = None,
    nodes: Annotated[int | None, typer.Option(help="Hidden nodes H [default: 10000].")] = None,
    samples: Annotated[int | None, typer.Option(help="Examples of each repeat [default: 1000].")] = None,
    m: Annotated[
        str | None, typer.Option("--m", help="Features per node, by commas [default: 1,2,5,10].")
    ] = None,
    eps: Annotated[float | None, typer.Option(help="Radius of the attack (L2) [default: 0.1].")] = None,
    gate: Annotated[
        str | None,
        typer.Option(help="Intercept b: fitted, or as the text has it: printed [default: fitted]."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Variance of a coordinate of the noise: zeta^2/d or zeta^2 [default: zeta^2/d]."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Networks: random, exact or grouped [default: random].")
    ] = None,
    tau: Annotated[
        float | None, typer.Option(help="Scale of A = tau W^+; the square root of 5 by default.")
    ] = None,
    b_scale: Annotated[
        float | None, typer.Option(help="Factor of the fitted intercept [default: 0.1].")
    ] = None,
    theta: Annotated[
        float | None, typer.Option(help="U 1 = theta: the strength of every feature [default: 1].")
    ] = None,
    frozen_gates: Annotated[bool, typer.Option(help="Keep the clean gates under attack.")] = False,
    variant_repeats: Annotated[
        int | None, typer.Option(help="Repeats of other readings; 0: leave them out [default: 5].")
    ] = None,
    readings: Annotated[
        str | None,
        typer.Option(help="Only these other readings: names, or beginnings of their words, with ; between."),
    ] = None,
    tiny: Tiny = False,
) -> None:
    """Figure 4 and Tables 6 to 8: contrastive losses of built networks against the features per node."""
    asked: dict[str, Any] = {
        "repeats": repeats,
        "d": d,
        "k": k,
        "zeta": zeta,
        "nodes": nodes,
        "samples": samples,
    }
    asked |= {"eps": eps, "gate": gate, "noise": noise, "kind": kind, "tau": tau, "b_scale": b_scale}
    asked |= {"theta": theta, "ms": None if m is None else levels(m), "frozen_gates": frozen_gates or None}
    run_sizes(
        "figure-4", tiny, seed, out, resume, figure=asked, variant_repeats=variant_repeats, readings=readings
    )


@sparse_coding_app.command()
def purify(
    out: Out = HOME / "purify",
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Seeds = None,
    steps: Steps = None,
    cases: Annotated[
        str | None,
        typer.Option(help="Only these trainings: names, or beginnings of their words, with ; between."),
    ] = None,
    points: Points = None,
    restarts: Restarts = None,
    tiny: Tiny = False,
) -> None:
    """Training, clean and adversarial: which losses, activations and attacks purify the nodes."""
    effort = {"points": points, "restarts": restarts}
    run_sizes("purify", tiny, seed, out, resume, seeds=seeds, steps=steps, cases=cases, effort=effort)


@sparse_coding_app.command()
def inherit(
    out: Out = HOME / "inherit",
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="Training runs per eps [default: 5].")] = None,
    steps: Steps = None,
    builds: Annotated[
        int | None, typer.Option(help="Built networks for each share of pure nodes [default: 10].")
    ] = None,
    pretrain_eps: Annotated[
        str | None,
        typer.Option(
            help="Radii of pre-training, by commas; empty: train none [default: 0,0.05,0.1,0.15,0.2,0.3,0.5]."
        ),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Shares of pure nodes, by commas; empty: build none [default: 0,0.1,0.25,0.5,0.75,0.9,1]."
        ),
    ] = None,
    points: Points = None,
    restarts: Restarts = None,
    tiny: Tiny = False,
) -> None:
    """Downstream: the gap L_eps - L_0 of clean-trained heads against the purity of the frozen nodes."""
    asked: dict[str, Any] = {"inherit_seeds": seeds, "steps": steps, "builds": builds}
    asked |= {"pretrain_eps": numbers(pretrain_eps, "pretrain_eps"), "shares": numbers(shares, "shares")}
    asked |= {"effort": {"points": points, "restarts": restarts}}
    run_sizes("inherit", tiny, seed, out, resume, **asked)


@sparse_coding_app.command()
def lemma(
    out: Out = HOME / "lemma",
    seed: Seed = 0,
    resume: Resume = False,
    inputs: Annotated[int | None, typer.Option(help="Draws of x on each network [default: 300].")] = None,
    tiny: Tiny = False,
) -> None:
    """Lemma 4.2's bounds on random, exact-m and grouped networks."""
    run_sizes("lemma", tiny, seed, out, resume, inputs=inputs)


@sparse_coding_app.command()
def theorem(
    out: Out = HOME / "theorem",
    seed: Seed = 0,
    resume: Resume = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds that every statement is measured with [default: 5].")
    ] = None,
    statements: Annotated[
        str | None,
        typer.Option(help="Only these statements: names, or beginnings of their words, with ; between."),
    ] = None,
    tiny: Tiny = False,
) -> None:
    """Statement by statement: equation (2), Lemmas F.3, F.4, 5.1, Theorems 5.2, A.1, A.2 and more, measured."""
    run_sizes("theorem", tiny, seed, out, resume, theorem={"seeds": seeds, "statements": statements})


def run_sizes(name: str, tiny: bool, seed: int, out: Path, resume: bool, **asked: Any) -> None:
    """One experiment at the full sizes or those of ``tiny``, with what was ``asked`` for in their place; None was
    not asked for, a mapping is of a part's own sizes."""
    from heirloom_recipes.sparse_coding.experiments import Sizes
    from heirloom_recipes.sparse_coding.experiments import tiny as tiny_sizes

    sizes = tiny_sizes() if tiny else Sizes()
    given = {
        field: replace(getattr(sizes, field), **_given(value)) if isinstance(value, dict) else value
        for field, value in _given(asked).items()
    }
    run([name], replace(sizes, **given), seed, out, resume)


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def levels(text: str) -> tuple[int, ...]:
    """``"1,2,5"`` as numbers."""
    from heirloom.runtime.errors import require

    parts = text.split(",")
    require(all(part.strip().isdigit() for part in parts), "m", "whole numbers such as 1,2,5,10", text)
    return tuple(sorted({int(part) for part in parts}))


def numbers(text: str | None, argument: str) -> tuple[float, ...] | None:
    """``"0,0.3"`` as numbers; empty text as none of them; None stays None."""
    from heirloom.runtime.errors import reject, require

    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        reject(argument, "numbers such as 0,0.3", text)
    require(len(set(found)) == len(found), argument, "numbers that differ from each other", text)
    return found


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
