"""``heirloom probe``: what a linear head inherits from a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heirloom.results.schema import Summary


def probe(
    encoder: Annotated[
        str,
        typer.Option(help="OUT/encoder of pretrain, Transformers folder, hub id, or package.module:factory."),
    ],
    data: Annotated[str, typer.Option(help="Images: hub id, folder, .npz file, or digits.")],
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    adversarial: Annotated[
        bool, typer.Option(help="Train an adversarial head beside the clean one.")
    ] = False,
    eps: Annotated[str, typer.Option(help="Radius in pixel units, e.g. 8/255.")] = "8/255",
    norm: Annotated[str, typer.Option(help="Linf, L2 or L1.")] = "Linf",
    attacks: Annotated[str, typer.Option(help="Attacks by commas, weakest first.")] = "pgd-20",
    epochs: Annotated[int, typer.Option(help="Of the clean head.")] = 150,
    adversarial_epochs: Annotated[int, typer.Option(help="Of the adversarial head.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Of the adversarial head.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of the adversarial head.")] = 0.1,
    attack_steps: Annotated[int, typer.Option(help="PGD steps in training.")] = 10,
    attack_step_size: Annotated[str | None, typer.Option(help="In pixel units [default: eps / 4].")] = None,
    validation: Annotated[float, typer.Option(help="Share of the training images held out.")] = 0.02,
    validation_images: Annotated[int, typer.Option(help="At most so many are attacked each epoch.")] = 1000,
    limit: Annotated[int | None, typer.Option(help="At most so many training images.")] = None,
    limit_test: Annotated[int | None, typer.Option(help="At most so many test images.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side that images are resized and cropped to.")
    ] = None,
    pooling: Annotated[str, typer.Option(help="Features: auto, cls, mean or pooler.")] = "auto",
    normalisation: Annotated[
        str, typer.Option(help="auto (the checkpoint's), none, half or imagenet.")
    ] = "auto",
    trust_remote_code: Annotated[bool, typer.Option(help="Let a hub repository's own code run.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in OUT.")] = False,
) -> None:
    """Train linear heads on a frozen encoder, chosen on validation images, and attack the whole."""
    from heirloom.cli.progress import stage_progress
    from heirloom.data.images import load_images
    from heirloom.heads.job import run_probe
    from heirloom.heads.linear import HeadSettings
    from heirloom.heads.probe import ProbeSettings
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.results.provenance import Stopwatch
    from heirloom.runtime.devices import torch_device
    from heirloom.threat import parse_eps, parse_threat
    from heirloom.training.inner_attack import InnerAttack
    from heirloom.training.loop import TrainingSettings

    stopwatch = Stopwatch()
    device = str(torch_device(device))
    threat = parse_threat(norm, eps)
    frozen = load_encoder(
        EncoderSettings(encoder, None, pooling, normalisation),  # type: ignore[arg-type]
        trust_remote_code=trust_remote_code,
    )
    images = load_images(data, image_size=image_size, limit=limit, limit_test=limit_test, seed=seed)
    step_size = parse_eps(attack_step_size) if attack_step_size else None
    settings = ProbeSettings(
        head=HeadSettings(epochs=epochs, seed=seed),
        adversarial=TrainingSettings(
            epochs=adversarial_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=5e-4,
            seed=seed,
            device=device,
        ),
        attack=InnerAttack(attack_steps, step_size),
        validation=validation,
        validation_images=validation_images,
    )
    with stage_progress() as progress:
        summary = run_probe(
            frozen,
            encoder,
            images,
            threat,
            settings,
            tuple(attacks.split(",")),
            out,
            adversarial=adversarial,
            resume=resume,
            progress=progress,
            stopwatch=stopwatch,
        )
    print_rows(summary, out)


def print_rows(summary: Summary, out: Path) -> None:
    """The table of a pre-training or a probe, and where the rest lies."""
    from heirloom.cli.output import print_table
    from heirloom.heads.page import accuracy
    from heirloom.runtime import distributed

    if distributed.rank() > 0:  # under torchrun one process speaks
        return
    if "clean" in summary.rows[0]:
        table = accuracy(summary)
        print_table(f"Accuracy in % [95 % interval], {summary.settings['threat']}", table.columns, table.rows)
    else:
        loss = f"{summary.rows[0]['loss']:.4g}"
        print_table(
            "Contrastive pre-training", ["pre-training", "last loss"], [[summary.rows[0]["pretrain"], loss]]
        )
    print(f"{out / 'summary.json'}\n{out / 'report.html'}")
