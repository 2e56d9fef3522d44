"""``heirloom theory cropd-bound``: Theorem 1 and Proposition 1 of CRoPD, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli.progress import note
from heirloom.cli.voice import told


def cropd_bound(
    model: Annotated[str, typer.Option(help="Frozen model for digits, as demo's runs/demo/foundation.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json.")] = Path("runs/cropd-bound"),
    weights: Annotated[str, typer.Option(help="lambda, by commas.")] = "0,10",
    radii: Annotated[str, typer.Option(help="eps, by commas.")] = "0.05,0.15",
    epochs: Annotated[int, typer.Option(min=1, help="Of each preprocessor.")] = 150,
    limit_test: Annotated[int, typer.Option(min=2, help="Test images that are attacked.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
) -> None:
    """Both sides of CRoPD's Theorem 1 on trained pipelines, and its Proposition 1 as numbers."""
    import torch

    from heirloom.theory.preprocessors.counterexample import proposition_1
    from heirloom.threat import parse_threat
    from heirloom_recipes.cropd.bound import measure_bound

    torch.set_num_threads(1)
    summary = measure_bound(
        model,
        out,
        weights=_weights(weights),
        radii=tuple(parse_threat("Linf", part, "radii").eps for part in radii.split(",")),
        epochs=epochs,
        limit=limit_test,
        seed=seed,
        report=note,
    )
    for row in summary.rows:
        typer.echo("  ".join(f"{name} {'-' if v is None else format(v, '.4g')}" for name, v in row.items()))
    typer.echo(
        "Proposition 1: an auto-encoder of adversarial error 1/n and a classifier that falls all the same"
    )
    for n in (1, 10, 100):
        made = proposition_1(n)
        typer.echo(
            f"n {n}: errors {made.clean_error:.4g} and {made.adversarial_error:.4g}, "
            f"losses {made.clean_loss:.4g} and {made.adversarial_loss:.4g}"
        )
    told(summary, out)


def _weights(text: str) -> tuple[float, ...]:
    from heirloom.runtime.errors import reject, require

    try:
        found = tuple(map(float, text.split(",")))
    except ValueError:
        reject("weights", "numbers by commas", text)
    require(all(0 <= weight < float("inf") for weight in found), "weights", "at least 0 each", text)
    return found
