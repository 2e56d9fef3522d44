"""``heirloom pretrain``: an encoder whose robustness downstream heads can inherit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli import options
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.pretraining.settings import PretrainSettings


def pretrain(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the encoder and its figures.")],
    method: Annotated[choices.PretrainMethod, typer.Option(help="How the encoder learns.")] = "supervised",
    adversarial: Annotated[
        bool, typer.Option(help="Add the adversarial phase (PGD training, TRADES or RoCL).")
    ] = False,
    network: Annotated[
        str,
        typer.Option(
            help="resnet18, resnet18-7x7, preact-resnet18, wide-resnet-34-10, resnet8, resnet8-7x7, "
            "resnet10-6x6-w32, resnet10-6x6-w64, airbench, vit-tiny."
        ),
    ] = "resnet18",
    eps: options.Eps = "8/255",
    norm: options.Norm = "Linf",
    clean_epochs: Annotated[int | None, typer.Option(help="Of the clean phase [default: 200].")] = None,
    adversarial_epochs: Annotated[
        int | None, typer.Option(help="Of the adversarial phase [default: 200; contrastive 1200].")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Over all processes [default: 128; contrastive 256].")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="[default: 0.1]")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="[default: 5e-4; contrastive 1e-6]")] = None,
    optimiser: Annotated[
        choices.Optimiser | None, typer.Option(help="[default: sgd; contrastive lars]")
    ] = None,
    schedule: Annotated[
        choices.RateSchedule | None, typer.Option(help="[default: divided; contrastive cosine]")
    ] = None,
    warmup: Annotated[int | None, typer.Option(help="Epochs of warm-up of the cosine [default: 10].")] = None,
    augmentation: Annotated[
        str, typer.Option(help="auto (of the method), crop-flip, contrastive or none.")
    ] = "auto",
    normalise: Annotated[
        bool | None, typer.Option(help="Mean and deviation inside the network [default: not contrastive].")
    ] = None,
    attack_steps: Annotated[int | None, typer.Option(help="PGD steps [default: 10; contrastive 20].")] = None,
    attack_step_size: Annotated[
        str | None, typer.Option(help="In pixel units [default: eps / 4; contrastive eps / 10].")
    ] = None,
    random_start: Annotated[
        bool | None, typer.Option(help="Of the attack [default: not for supervised].")
    ] = None,
    beta: Annotated[float, typer.Option(help="Of TRADES.")] = 6.0,
    temperature: Annotated[float, typer.Option(help="Of NT-Xent.")] = 0.5,
    regulariser_weight: Annotated[float, typer.Option(help="Of RoCL's second term.")] = 1 / 256,
    attack_in_train_mode: Annotated[
        bool, typer.Option(help="Quirk: attack with batch statistics, which move (Rice et al.).")
    ] = False,
    last_iterate: Annotated[
        bool, typer.Option(help="Quirk: train on the attack's last iterate, not its best (both codes).")
    ] = False,
    select_on_test: Annotated[
        bool, typer.Option(help="Quirk: choose the epoch on the test images (Rice et al.); figures too good.")
    ] = False,
    detach_right_factor: Annotated[
        bool, typer.Option(help="Quirk: NT-Xent moves anchors only (RoCL).")
    ] = False,
    lars_adapts_vectors: Annotated[
        bool, typer.Option(help="Quirk: LARS rescales BatchNorm and biases too (RoCL).")
    ] = False,
    attacks: Annotated[
        str, typer.Option(help="Attacks on the trained classifier, weakest first.")
    ] = "pgd-20",
    attack_dtype: options.PassDtype = None,
    keep_epochs: Annotated[
        str | None, typer.Option(help="Epochs of each phase whose encoder stays in OUT/kept, e.g. 1,5,10.")
    ] = None,
    limit: options.Limit = None,
    limit_test: options.LimitTest = None,
    image_size: options.ImageSize = None,
    validation: options.Validation = 0.02,
    validation_images: options.ValidationImages = 1000,
    channels_last: Annotated[bool, typer.Option(help="Memory layout; the faster one.")] = True,
    compile_network: Annotated[bool, typer.Option("--compile", help="torch.compile the network.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    mixed_precision: options.MixedPrecision = "no",
    resume: options.Resume = False,
) -> None:
    """Pre-train an encoder on images, cleanly or adversarially, with labels or without.

    OUT/encoder is what probe, inspect and defend --model take. Defaults are the settings of Xing et al.
    (AISTATS 2024, Table 3), which take a GPU and days for contrastive learning.
    """
    from heirloom.cli.plan import announce
    from heirloom.cli.probe import print_rows
    from heirloom.cli.progress import stage_progress
    from heirloom.data.images import load_images
    from heirloom.pretraining.job import pretrain_job
    from heirloom.pretraining.plan import plan_of_pretraining
    from heirloom.runs import check_new
    from heirloom.runtime.devices import torch_device

    device = str(torch_device(device))
    check_new(out, resume=resume)
    chosen = options.attacks_in(attacks)
    threat = options.threat_of(norm, eps)
    settings = _settings(
        method,
        adversarial,
        augmentation,
        attack={
            "steps": attack_steps,
            "random_start": random_start,
            "last_iterate": last_iterate,
            "step_size": options.step_size_of(attack_step_size),
            "attack_in_train_mode": attack_in_train_mode,
        },
        training={
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "seed": seed,
            "device": device,
            "mixed_precision": mixed_precision,
        },
        contrastive={
            "temperature": temperature,
            "regulariser_weight": regulariser_weight,
            "detach_right_factor": detach_right_factor,
        },
        network=network,
        clean_epochs=clean_epochs,
        adversarial_epochs=adversarial_epochs,
        beta=beta,
        optimiser=optimiser,
        schedule=schedule,
        warmup=warmup,
        normalise=normalise,
        lars_adapts_vectors=lars_adapts_vectors,
        select_on_test=select_on_test,
        validation=validation,
        validation_images=validation_images,
        keep_epochs=_epochs(keep_epochs),
        channels_last=channels_last,
        compile=compile_network,
    )
    images = load_images(data, image_size=image_size, limit=limit, limit_test=limit_test, seed=seed)
    announce(out, lambda: plan_of_pretraining(images, threat, settings, chosen))
    with stage_progress() as progress:
        summary = pretrain_job(
            images,
            threat,
            settings,
            chosen,
            out,
            attack_dtype=attack_dtype,
            resume=resume,
            progress=progress,
        )
    print_rows(summary, out)


def _epochs(text: str | None) -> tuple[int, ...]:
    from heirloom.runtime.errors import require

    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    require(all(part.isdecimal() for part in parts), "keep_epochs", "whole numbers by commas", text)
    return tuple(sorted({int(part) for part in parts}))


def _settings(
    method: choices.PretrainMethod, adversarial: bool, augmentation: str, **changes: Any
) -> PretrainSettings:
    """The paper's settings with what the user changed; None stands for "not given"."""
    from dataclasses import replace

    from heirloom.data.augmentation import CROP_AND_FLIP
    from heirloom.pretraining.settings import CONTRASTIVE_AUGMENTATION, paper_settings
    from heirloom.runtime.errors import require

    base = paper_settings(method)
    if not adversarial:
        changes["adversarial_epochs"] = 0
    augmentations = {
        "auto": base.augmentation,
        "crop-flip": CROP_AND_FLIP,
        "contrastive": CONTRASTIVE_AUGMENTATION,
        "none": None,
    }
    require(augmentation in augmentations, "augmentation", f"one of {', '.join(augmentations)}", augmentation)
    for group in ("attack", "training", "contrastive"):
        given = {name: value for name, value in changes.pop(group).items() if value is not None}
        changes[group] = replace(getattr(base, group), **given)
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(base, augmentation=augmentations[augmentation], **given)
