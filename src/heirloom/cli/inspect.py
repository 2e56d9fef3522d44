"""``heirloom inspect``: the first-layer filters of an encoder, drawn and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli import options


def inspect(
    encoders: Annotated[
        list[str],
        typer.Argument(
            help="One encoder or two: OUT/encoder of pretrain, Transformers folder, hub id, or factory.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page.")],
    trust_remote_code: options.TrustRemoteCode = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the intervals' resampling.")] = 0,
    resume: options.Resume = False,
) -> None:
    """Draw the first-layer filters, each scaled to [0, 1] by itself, and measure how pure they are.

    Two encoders stand side by side with their difference. Where the folder of a pre-training run is beside
    the encoder, the page shows how its filters came about.
    """
    from heirloom.cli.output import print_table
    from heirloom.inspection.job import inspect_job
    from heirloom.inspection.page import measures
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.runtime.errors import renamed, require

    require(len(encoders) <= 2, "encoders", "one or two", len(encoders))
    require(len(set(encoders)) == len(encoders), "encoders", "different from each other", encoders[0])
    with renamed(model="encoders"):
        loaded = {
            source: load_encoder(
                EncoderSettings(source, normalisation="none"), trust_remote_code=trust_remote_code
            )
            for source in encoders
        }
    summary = inspect_job(loaded, out, seed=seed, resume=resume)
    table = measures(summary.rows)
    print_table(table.caption, table.columns, table.rows)
    options.files_written(summary, out)
