"""``heirloom theory cropd-bound``: Theorem 1 and Proposition 1 of CRoPD, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli.options import ResultFolder, Resume, Seed, TrustRemoteCode, files_written


def cropd_bound(
    model: Annotated[str, typer.Option(help="Frozen model for digits, as demo's runs/demo/foundation.")],
    out: ResultFolder = Path("runs/cropd-bound"),
    weights: Annotated[str, typer.Option(help="lambda, by commas.")] = "0,1,10",
    radii: Annotated[str, typer.Option(help="eps, by commas.")] = "0.05,0.1,0.15",
    epochs: Annotated[int, typer.Option(min=1, help="Of each preprocessor.")] = 150,
    limit_test: Annotated[int, typer.Option(min=2, help="Test images that are attacked.")] = 200,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each lambda and eps.")] = 1,
    resume: Resume = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Both sides of CRoPD's Theorem 1 on trained pipelines, and its Proposition 1 as numbers."""
    import torch

    from heirloom.cli.output import print_table
    from heirloom.cli.progress import stage_progress
    from heirloom.runs import check_new
    from heirloom.threat import parse_threat
    from heirloom_recipes.cropd.bound import measure_bound
    from heirloom_recipes.cropd.bound_page import printed

    check_new(out, resume=resume)
    torch.set_num_threads(1)
    with stage_progress() as progress:
        summary = measure_bound(
            model,
            out,
            weights=_weights(weights),
            radii=tuple(parse_threat("Linf", part, "radii").eps for part in radii.split(",")),
            epochs=epochs,
            limit=limit_test,
            seed=seed,
            seeds=seeds,
            resume=resume,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    for table in printed(summary):
        print_table(table.caption, table.columns, table.rows)
    _proposition_1()
    files_written(summary, out)


def _proposition_1() -> None:
    from heirloom.theory.preprocessors.counterexample import proposition_1

    typer.echo(
        "Proposition 1: an auto-encoder of adversarial error 1/n and a classifier that falls all the same"
    )
    for n in (1, 10, 100):
        made = proposition_1(n)
        typer.echo(
            f"n {n}: errors {made.clean_error:.4g} and {made.adversarial_error:.4g}, "
            f"losses {made.clean_loss:.4g} and {made.adversarial_loss:.4g}"
        )


def _weights(text: str) -> tuple[float, ...]:
    from heirloom.runtime.errors import reject, require

    try:
        found = tuple(map(float, text.split(",")))
    except ValueError:
        reject("weights", "numbers by commas", text)
    require(all(0 <= weight < float("inf") for weight in found), "weights", "at least 0 each", text)
    return found
