"""``heirloom defend``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PRESET_RATES = {"mlp": 3e-3, "conv": 2e-3}
PAPER_RATE = 1.5e-4


def defend(
    model: Annotated[
        str, typer.Option(help="Foundation model: hub id, Transformers folder, package.module:factory.")
    ],
    data: Annotated[str, typer.Option(help="Images: hub id, folder, .npz file, or digits.")],
    out: Annotated[Path, typer.Option(help="Folder for the defended model and its figures.")],
    eps: Annotated[str, typer.Option(help="Radius in pixel units, e.g. 8/255.")] = "8/255",
    norm: Annotated[str, typer.Option(help="Linf, L2 or L1.")] = "Linf",
    method: Annotated[
        str,
        typer.Option(
            help="adversarial-reconstruction, stability, cropd, arae, noise, vanilla (images alone), distil, "
            "feature-stability (the model too), identity, or auto: short trials decide, on validation images."
        ),
    ] = "cropd",
    compare: Annotated[
        str, typer.Option(help="Methods measured beside it, by commas; none: ''.")
    ] = "identity",
    weight: Annotated[
        float | None,
        typer.Option(help="lambda of CRoPD (default 10), gamma of ARAE (0.1), second term of the others."),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Of the training attack, in eps [default: the method's].")
    ] = None,
    attack_steps: Annotated[int, typer.Option(help="Steps of the training attack.")] = 1,
    student: Annotated[str, typer.Option(help="distil: resnet10 or resnet18.")] = "resnet10",
    student_width: Annotated[int, typer.Option(help="distil: channels of a ResNet-10's first stage.")] = 32,
    prototypes: Annotated[int, typer.Option(help="distil: k-means centres of the model's features.")] = 10,
    temperature: Annotated[float, typer.Option(help="tau of the contrastive loss.")] = 0.5,
    architecture: Annotated[
        str, typer.Option(help="mlp, conv, vit-small32, vit-large224, or auto: by image size.")
    ] = "auto",
    epochs: Annotated[int, typer.Option(help="Epochs of the preprocessor.")] = 100,
    minutes: Annotated[
        float | None, typer.Option(help="Train each preprocessor for about so long, in place of epochs.")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(help="Exactly so many steps, by phases and commas: what a run with minutes recorded."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Batch size of training.")] = 128,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Default: 3e-3 (mlp), 2e-3 (conv), 1.5e-4 (the paper's architectures)."),
    ] = None,
    augment: Annotated[bool, typer.Option(help="The paper's augmentation (Table 5).")] = False,
    head_epochs: Annotated[int, typer.Option(help="Epochs of the linear head.")] = 150,
    robust_head: Annotated[bool, typer.Option(help="Train the head on adversarial examples too.")] = False,
    attacks: Annotated[str, typer.Option(help="Attacks by commas, weakest first.")] = "pgd-10,pgd-20,strong",
    limit: Annotated[int | None, typer.Option(help="At most so many training images.")] = None,
    limit_test: Annotated[int | None, typer.Option(help="At most so many test images.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side that images are resized and cropped to.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of the images, where it is not found.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the labels, where it is not found.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the foundation model on the hub.")] = None,
    pooling: Annotated[str, typer.Option(help="Features: auto, cls, mean or pooler.")] = "auto",
    normalisation: Annotated[
        str, typer.Option(help="auto (the checkpoint's), none, half or imagenet.")
    ] = "auto",
    trust_remote_code: Annotated[bool, typer.Option(help="Let a hub repository's own code run.")] = False,
    validation: Annotated[float, typer.Option(help="Share of the training images held out.")] = 0.1,
    eval_batch_size: Annotated[int, typer.Option(help="Batch size of evaluation.")] = 256,
    audit_examples: Annotated[
        int, typer.Option(help="Test images that the audit looks at; 0: no audit.")
    ] = 64,
    strict: Annotated[
        bool,
        typer.Option(help="Exit with status 1 where the defence costs more than it gives."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    mixed_precision: Annotated[str, typer.Option(help="Of training: no, fp16 or bf16.")] = "no",
    checkpoint_seconds: Annotated[
        float, typer.Option(help="At most so much training is lost when cut off.")
    ] = 30.0,
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in OUT.")] = False,
) -> None:
    """Put a robust preprocessor in front of a frozen model, train a head behind it, measure, save."""
    from heirloom.cli.demo import print_summary
    from heirloom.cli.progress import stage_progress
    from heirloom.data.augmentation import Augmentation
    from heirloom.data.images import load_images
    from heirloom.defence.job import DefendSettings
    from heirloom.defence.job import defend as run
    from heirloom.defence.train_preprocessor import DefenceSettings, DistilSettings
    from heirloom.heads.linear import HeadSettings
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.results.provenance import Stopwatch
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import require
    from heirloom.threat import parse_threat
    from heirloom.training.loop import TrainingSettings

    stopwatch = Stopwatch()
    device = str(torch_device(device))
    threat = parse_threat(norm, eps)
    encoder_settings = EncoderSettings(model, revision, pooling, normalisation)  # type: ignore[arg-type]
    require(learning_rate is None or learning_rate > 0, "--learning-rate", "above 0", learning_rate)
    images = load_images(
        data,
        image_size=image_size,
        limit=limit,
        limit_test=limit_test,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    )
    chosen = _architecture(images.train.shape[1]) if architecture == "auto" else architecture
    settings = DefendSettings(
        threat=threat,
        defence=DefenceSettings(
            method=method,
            architecture=chosen,
            weight=weight,
            radius=radius,
            attack_steps=attack_steps,
            distil=DistilSettings(student=student, width=student_width, count=prototypes),
            minutes=minutes,
            steps=_steps(steps),
            temperature=temperature,
            augmentation=Augmentation() if augment else None,
            training=TrainingSettings(
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate or PRESET_RATES.get(chosen, PAPER_RATE),
                seed=seed,
                device=device,
                mixed_precision=mixed_precision,  # type: ignore[arg-type]
                checkpoint_seconds=checkpoint_seconds,
            ),
        ),
        compare=tuple(filter(None, compare.split(","))),
        head=HeadSettings(epochs=head_epochs, seed=seed),
        robust_head=robust_head,
        attacks=tuple(filter(None, attacks.split(","))),
        validation=validation,
        batch_size=eval_batch_size,
        audit_examples=audit_examples,
    )
    encoder = load_encoder(encoder_settings, trust_remote_code=trust_remote_code)
    with stage_progress() as progress:
        _, summary = run(
            encoder, images, settings, out, resume=resume, progress=progress, stopwatch=stopwatch
        )
    print_summary(summary, out)
    for found in summary.details["remarks"]:
        typer.echo(f"warning: {found['warning']}", err=True)
    if strict and summary.details["remarks"]:
        raise typer.Exit(1)


def _steps(text: str | None) -> tuple[int, ...] | None:
    from heirloom.runtime.errors import require

    if text is None:
        return None
    parts = text.split(",")
    require(all(part.isdecimal() for part in parts), "steps", "whole numbers by commas", text)
    return tuple(map(int, parts))


def _architecture(side: int) -> str:
    """The paper's where its size fits exactly and the machine can bear it is the user's choice: small ones here."""
    return "mlp" if side <= 28 else "conv"
