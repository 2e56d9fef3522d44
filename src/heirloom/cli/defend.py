"""``heirloom defend``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heirloom.cli import options
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.defence.settings import DefendSettings
    from heirloom.results.schema import Summary


def defend(
    context: typer.Context,
    model: options.Model,
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the defended model and its figures.")],
    eps: options.Eps = "8/255",
    norm: options.Norm = "Linf",
    method: Annotated[
        choices.AnyMethod,
        typer.Option(
            help="What is trained and saved; recommended: what wins on such images; auto: trials decide."
        ),
    ] = "recommended",
    compare: Annotated[
        str | None,
        typer.Option(
            help="Methods beside it, by commas; none: ''. [default: identity, and beside a preprocessor that is "
            "trained noise, the control that it must beat, for a quarter to all of its passes]"
        ),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(help="lambda of CRoPD (default 10), gamma of ARAE (0.1), second term of the others."),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Of the training attack, in eps [default: the method's].")
    ] = None,
    sigma: Annotated[
        float, typer.Option(help="denoise: standard deviation of the noise, in pixel units.")
    ] = 0.25,
    vae: Annotated[
        str, typer.Option(help="vae: hub id or folder of an AutoencoderKL, used as it is; [vae].")
    ] = "stabilityai/sd-vae-ft-mse",
    attack_steps: Annotated[int, typer.Option(help="Steps of the training attack.")] = 1,
    student: Annotated[str, typer.Option(help="distil: resnet10 or resnet18.")] = "resnet10",
    student_width: Annotated[int, typer.Option(help="distil: channels of a ResNet-10's first stage.")] = 32,
    delay: Annotated[
        float, typer.Option(help="distil: share of the student's training before it is attacked; 0 to 0.5.")
    ] = 0.2,
    student_activation: Annotated[
        choices.Activation, typer.Option(help="distil: of the student; silu learns better under attack.")
    ] = "silu",
    targets: Annotated[
        choices.AnyTargets,
        typer.Option(
            help="distil: what the student learns, the model's features or its own head's classes; auto: classes "
            "where that head is kept."
        ),
    ] = "auto",
    saved_as: Annotated[
        choices.SavedAs,
        typer.Option("--as", help="distil: an encoder in the model's place needs no painter."),
    ] = "preprocessor",
    thumbnail: Annotated[
        int, typer.Option(help="distil: side of a coarse picture that the painter sees as well; 0: none.")
    ] = 0,
    fidelity: Annotated[
        float, typer.Option(help="distil: weight of the paintings' likeness to the images.")
    ] = 0.0,
    prototypes: Annotated[int, typer.Option(help="distil: k-means centres of the model's features.")] = 10,
    temperature: Annotated[float, typer.Option(help="tau of the contrastive loss.")] = 0.5,
    architecture: Annotated[
        str, typer.Option(help=f"{choices.listed(choices.Autoencoder)}, or auto: by image size.")
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
        float | None, typer.Option(help="Default: 3e-3 (mlp), 2e-3 (conv), 1.5e-4 (the paper's).")
    ] = None,
    augment: Annotated[bool, typer.Option(help="The paper's augmentation (Table 5).")] = False,
    head_epochs: Annotated[int, typer.Option(help="Epochs of the linear head.")] = 150,
    head_weight_decay: Annotated[
        float | None,
        typer.Option(help="Of the linear head, AdamW [default: 1 where distil is recommended, else 0.01]."),
    ] = None,
    head: Annotated[
        choices.HeadKind, typer.Option(help="Trained, the model's own classifier, or class names as texts.")
    ] = "linear",
    classes: Annotated[Path | None, typer.Option(help="own, zero-shot: class names, one a line.")] = None,
    template: Annotated[
        str | None, typer.Option(help="zero-shot: text of a class [default: a photo of a {}].")
    ] = None,
    text_embeddings: Annotated[
        Path | None, typer.Option(help="zero-shot: safetensors file with text_embeddings (classes, D).")
    ] = None,
    robust_head: Annotated[bool, typer.Option(help="Train the head on adversarial examples too.")] = False,
    attacks: options.Attacks = "pgd-10,pgd-20,cascade",
    limit: options.Limit = None,
    limit_test: options.LimitTest = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            help="Images that preprocessors learn from in place of DATA's; no labels: a flat folder will do."
        ),
    ] = None,
    limit_unlabelled: Annotated[int | None, typer.Option(min=1, help="At most so many of them.")] = None,
    image_size: options.ImageSize = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    revision: options.Revision = None,
    adapter: Annotated[
        str | None, typer.Option(help="peft folder (LoRA), merged into MODEL; [lora].")
    ] = None,
    vision_weights: Annotated[
        Path | None, typer.Option(help="open_clip's visual weights (FARE, TeCoA) for the CLIP MODEL.")
    ] = None,
    pooling: options.Pooling = "auto",
    normalisation: options.Normalisation = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    validation: options.Validation = 0.1,
    eval_batch_size: options.EvalBatchSize = None,
    attack_dtype: options.PassDtype = None,
    compile_network: options.Compile = False,
    fsdp: options.Fsdp = False,
    curve: Annotated[bool, typer.Option(help="Accuracy against eps, on 256 test images.")] = True,
    audit_examples: Annotated[int, typer.Option(help="Test images for the audit; 0: no audit.")] = 64,
    strict: Annotated[
        bool,
        typer.Option(
            help="Exit with status 1 where the defence costs more than it gives, does not beat its controls, or was "
            "compared with none; refused where nothing is compared."
        ),
    ] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    mixed_precision: options.MixedPrecision = "no",
    checkpoint_seconds: Annotated[float, typer.Option(help="At most so much training is lost.")] = 30.0,
    resume: options.Resume = False,
) -> None:
    """Put a robust preprocessor in front of a frozen model, train a head behind it, measure, save."""
    from dataclasses import replace

    from heirloom.cli.effects import check_effects
    from heirloom.cli.plan import announce
    from heirloom.cli.progress import stage_progress
    from heirloom.data.augmentation import Augmentation
    from heirloom.data.images import load_images
    from heirloom.data.unlabelled import load_unlabelled
    from heirloom.defence.choose import compared_with, recommended
    from heirloom.defence.job import defend as defend_job
    from heirloom.defence.plan import plan_of_defence
    from heirloom.defence.settings import DefendSettings, DistilSettings, PreprocessorSettings
    from heirloom.heads.linear import HeadSettings
    from heirloom.heads.ready import pooling_for, ready_head
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.runs import check_new
    from heirloom.runtime import distributed
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import require
    from heirloom.training.loop import TrainingSettings

    device = str(torch_device(device))
    named = unlabelled is not None
    require(
        named or limit_unlabelled is None, "limit_unlabelled", "left out without unlabelled", limit_unlabelled
    )
    check_new(out, resume=resume)
    threat = options.threat_of(norm, eps)
    weights = None if vision_weights is None else str(vision_weights)
    reading = EncoderSettings(
        model, revision, pooling_for(head, pooling), normalisation, adapter=adapter, vision_weights=weights
    )
    training = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1.0 if learning_rate is None else learning_rate,
        seed=seed,
        device=device,
        mixed_precision=mixed_precision,
        checkpoint_seconds=checkpoint_seconds,
    )
    settings = DefendSettings(
        threat=threat,
        defence=PreprocessorSettings(
            method="distil" if method == "recommended" else method,  # the images will tell
            architecture=architecture,
            weight=weight,
            radius=radius,
            sigma=sigma,
            vae=vae,
            attack_steps=attack_steps,
            distil=DistilSettings(
                student=student,
                width=student_width,
                activation=student_activation,
                delay=delay,
                thumbnail=thumbnail,
                fidelity=fidelity,
                targets=targets_for(targets, head),
                count=prototypes,
                paints=saved_as == "preprocessor",
            ),
            minutes=minutes,
            steps=_steps(steps),
            temperature=temperature,
            augmentation=Augmentation() if augment else None,
            training=training,
        ),
        compare=options.names_in(compare or ""),  # type: ignore[arg-type]
        head=HeadSettings(
            epochs=head_epochs,
            seed=seed,
            weight_decay=HeadSettings.weight_decay if head_weight_decay is None else head_weight_decay,
        ),
        robust_head=robust_head,
        attacks=options.attacks_in(attacks),
        validation=validation,
        eval_batch_size=eval_batch_size,
        attack_dtype=attack_dtype,
        compile=compile_network,
        fsdp=fsdp,
        audit_examples=audit_examples,
        **({} if curve else {"curve_images": 0}),
    )
    encoder = load_encoder(reading, trust_remote_code=trust_remote_code)
    images = load_images(
        data,
        image_size=image_size,
        limit=limit,
        limit_test=limit_test,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    )
    if unlabelled is not None:
        more = load_unlabelled(
            unlabelled, images.train.shape, limit=limit_unlabelled, image_column=image_column, seed=seed
        )
        images = replace(images, unlabelled=more)
    settings = _fitted(settings, images.train.shape, learning_rate, head_weight_decay)
    if method == "recommended" and saved_as == "preprocessor":  # nothing but distil makes an encoder
        settings = replace(
            settings, defence=replace(settings.defence, method=recommended(images.train.shape))
        )
    if compare is None:
        settings = replace(settings, compare=compared_with(settings.defence.method))
    check_effects(context, settings, head)
    wanted = "left out where nothing is compared that could judge the defence"
    require(not strict or _can_be_judged(settings), "strict", wanted, strict)
    kept = ready_head(
        head, encoder, images.train, classes=classes, template=template, text_embeddings=text_embeddings
    )
    announce(out, lambda: plan_of_defence(encoder, images, settings, kept))
    with stage_progress() as progress:
        _, summary = defend_job(encoder, images, settings, out, head=kept, resume=resume, progress=progress)
    distributed.leave()
    if distributed.speaks():
        print_summary(summary, out)
        for found in summary.details["remarks"]:
            typer.echo(f"warning: {found['warning']}", err=True)
        for told in summary.details.get("unjudged", []):
            typer.echo(f"warning: {told}", err=True)
    if strict and (summary.details["remarks"] or summary.details.get("unjudged", [])):
        raise typer.Exit(1)


def _can_be_judged(settings: DefendSettings) -> bool:
    """Whether there will be anything to hold the defence against: what ``--strict`` promises to do."""
    from heirloom.defence.remarks import CONTROLS

    method, rows = settings.defence.method, set(settings.compare)
    own = method == "distil" and settings.defence.distil.paints  # its student alone
    return method != "identity" and (own or bool(({"identity", *CONTROLS} & rows) - {method}))


def targets_for(asked: choices.AnyTargets, head: choices.HeadKind) -> choices.Targets:
    """With a kept classifier the model is read as its logits: their classes are learned better than their squares."""
    if asked == "auto":
        return "head" if head == "own" else "features"
    return asked


def _fitted(
    settings: DefendSettings, shape: tuple[int, int, int], learning_rate: float | None, decay: float | None
) -> DefendSettings:
    """What was left to the images: the architecture for ``shape``, its learning rate, the weight decay of the head."""
    from dataclasses import replace

    from heirloom.defence.choose import head_weight_decay_for
    from heirloom.defence.train_preprocessor import architecture_for, learning_rate_for

    defence = settings.defence
    chosen = architecture_for(shape) if defence.architecture == "auto" else defence.architecture
    rate = learning_rate_for(chosen) if learning_rate is None else learning_rate
    training = replace(defence.training, learning_rate=rate)
    head = replace(settings.head, weight_decay=head_weight_decay_for(shape) if decay is None else decay)
    return replace(settings, defence=replace(defence, architecture=chosen, training=training), head=head)


def _steps(text: str | None) -> tuple[int, ...] | None:
    from heirloom.runtime.errors import require

    if text is None:
        return None
    parts = text.split(",")
    require(all(part.isdecimal() for part in parts), "steps", "whole numbers by commas", text)
    return tuple(map(int, parts))


def print_summary(summary: Summary, out: Path) -> None:
    """The one table of a defence, and where the rest lies."""
    from heirloom.cli.output import print_table
    from heirloom.objectives.defences import caveats
    from heirloom.report.tables import accuracy_table

    count = summary.rows[0]["clean"]["n"]
    if trials := summary.details.get("trials"):
        columns, tried = accuracy_table(trials)
        print_table("Trials, on validation images alone, in %", columns, tried)
        print(summary.details["choice"]["why"])
    columns, rows = accuracy_table(summary.rows)
    print_table(f"Accuracy in % [95 % interval], {summary.threat}, {count} test images", columns, rows)
    for told in caveats(row["defence"] for row in summary.rows):
        print(told)
    print("Each column is the worst case over its attack and all before it.")
    options.files_written(summary, out)
