"""``heirloom probe``: what a linear head inherits from a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heirloom.cli import options
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.results.schema import Summary


def probe(
    encoder: Annotated[
        str,
        typer.Option(help="OUT/encoder of pretrain, Transformers folder, hub id, or package.module:factory."),
    ],
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    adversarial: Annotated[
        bool, typer.Option(help="Train an adversarial head beside the clean one.")
    ] = False,
    eps: options.Eps = "8/255",
    norm: options.Norm = "Linf",
    attacks: options.Attacks = "pgd-20",
    epochs: Annotated[int, typer.Option(help="Of the clean head.")] = 150,
    adversarial_epochs: Annotated[int, typer.Option(help="Of the adversarial head.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Of the adversarial head.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of the adversarial head.")] = 0.1,
    attack_steps: Annotated[int, typer.Option(help="PGD steps in training.")] = 10,
    attack_step_size: Annotated[str | None, typer.Option(help="In pixel units [default: eps / 4].")] = None,
    mixed_precision: Annotated[
        choices.MixedPrecision, typer.Option(help="Of the passes of the attack in training.")
    ] = "no",
    eval_batch_size: options.EvalBatchSize = None,
    attack_dtype: options.PassDtype = None,
    validation: options.Validation = 0.02,
    validation_images: options.ValidationImages = 1000,
    limit: options.Limit = None,
    limit_test: options.LimitTest = None,
    image_size: options.ImageSize = None,
    pooling: options.Pooling = "auto",
    normalisation: options.Normalisation = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
) -> None:
    """Train linear heads on a frozen encoder, chosen on validation images, and attack the whole."""
    from functools import partial

    from heirloom.cli.plan import announce
    from heirloom.cli.progress import stage_progress
    from heirloom.data.images import load_images
    from heirloom.heads.job import probe_job
    from heirloom.heads.linear import HeadSettings
    from heirloom.heads.plan import plan_of_probe
    from heirloom.heads.probe import ProbeSettings
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.runs import check_new
    from heirloom.runtime import distributed
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import renamed
    from heirloom.training.inner_attack import InnerAttack
    from heirloom.training.loop import TrainingSettings

    device = str(torch_device(device))
    check_new(out, resume=resume)
    threat = options.threat_of(norm, eps)
    chosen = options.attacks_in(attacks)
    with renamed(head_epochs="epochs"):
        head = HeadSettings(epochs=epochs, seed=seed)
    with renamed(epochs="adversarial_epochs"):
        training = TrainingSettings(
            epochs=adversarial_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=5e-4,
            seed=seed,
            device=device,
            mixed_precision=mixed_precision,
        )
    settings = ProbeSettings(
        head=head,
        adversarial=training,
        attack=InnerAttack(attack_steps, options.step_size_of(attack_step_size)),
        validation=validation,
        validation_images=validation_images,
        eval_batch_size=eval_batch_size,
        attack_dtype=attack_dtype,
    )
    with renamed(model="encoder"):
        frozen = load_encoder(
            EncoderSettings(encoder, None, pooling, normalisation), trust_remote_code=trust_remote_code
        )
    images = load_images(data, image_size=image_size, limit=limit, limit_test=limit_test, seed=seed)
    plan = partial(plan_of_probe, frozen, images, threat, settings, chosen, adversarial=adversarial)
    with renamed(model="encoder"):
        announce(out, plan)
    with stage_progress() as progress:
        summary = probe_job(
            frozen,
            images,
            threat,
            settings,
            chosen,
            out,
            adversarial=adversarial,
            resume=resume,
            progress=progress,
        )
    distributed.leave()
    print_rows(summary, out)


def print_rows(summary: Summary, out: Path) -> None:
    """The table of a pre-training or a probe, and where the rest lies."""
    from heirloom.cli.output import print_table
    from heirloom.heads.page import accuracy
    from heirloom.runtime import distributed

    if not distributed.speaks():
        return
    if "clean" in summary.rows[0]:
        table = accuracy(summary)
        print_table(f"Accuracy in % [95 % interval], {summary.threat}", table.columns, table.rows)
    else:
        loss = f"{summary.rows[0]['loss']:.4g}"
        print_table(
            "Contrastive pre-training", ["pre-training", "last loss"], [[summary.rows[0]["pretrain"], loss]]
        )
    options.files_written(summary, out)
