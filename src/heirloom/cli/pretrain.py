"""``heirloom pretrain``: an encoder whose robustness downstream heads can inherit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heirloom.pretraining.settings import PretrainSettings


def pretrain(
    data: Annotated[str, typer.Option(help="Images: hub id, folder, .npz file, or digits.")],
    out: Annotated[Path, typer.Option(help="Folder for the encoder and its figures.")],
    method: Annotated[str, typer.Option(help="supervised, trades or contrastive.")] = "supervised",
    adversarial: Annotated[
        bool, typer.Option(help="Add the adversarial phase (PGD training, TRADES or RoCL).")
    ] = False,
    network: Annotated[
        str,
        typer.Option(
            help="resnet18, resnet18-7x7, preact-resnet18, wide-resnet-34-10, resnet8, resnet8-7x7, "
            "resnet10-6x6-w32, resnet10-6x6-w64, vit-tiny."
        ),
    ] = "resnet18",
    eps: Annotated[str, typer.Option(help="Radius in pixel units, e.g. 8/255.")] = "8/255",
    norm: Annotated[str, typer.Option(help="Linf, L2 or L1.")] = "Linf",
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
        str | None, typer.Option(help="sgd or lars [default: sgd; contrastive lars].")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="divided or cosine [default: divided; contrastive cosine].")
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
    limit: Annotated[int | None, typer.Option(help="At most so many training images.")] = None,
    limit_test: Annotated[int | None, typer.Option(help="At most so many test images.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side that images are resized and cropped to.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the training images held out.")] = 0.02,
    validation_images: Annotated[int, typer.Option(help="At most so many are attacked each epoch.")] = 1000,
    keep_epochs: Annotated[
        str | None, typer.Option(help="Epochs of each phase whose encoder stays in OUT/kept, e.g. 1,5,10.")
    ] = None,
    channels_last: Annotated[bool, typer.Option(help="Memory layout; the faster one.")] = True,
    compile_network: Annotated[bool, typer.Option("--compile", help="torch.compile the network.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    mixed_precision: Annotated[str, typer.Option(help="Of training: no, fp16 or bf16.")] = "no",
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in OUT.")] = False,
) -> None:
    """Pre-train an encoder on images, cleanly or adversarially, with labels or without.

    OUT/encoder is what probe, inspect and defend --model take. Defaults are the settings of Xing et al.
    (AISTATS 2024, Table 3), which take a GPU and days for contrastive learning.
    """
    from heirloom.cli.probe import print_rows
    from heirloom.cli.progress import stage_progress
    from heirloom.data.images import load_images
    from heirloom.pretraining.job import run_pretrain
    from heirloom.results.provenance import Stopwatch
    from heirloom.runtime.devices import torch_device
    from heirloom.threat import parse_eps, parse_threat

    stopwatch = Stopwatch()
    device = str(torch_device(device))
    threat = parse_threat(norm, eps)
    settings = _settings(
        method,
        adversarial,
        augmentation,
        attack={
            "steps": attack_steps,
            "random_start": random_start,
            "last_iterate": last_iterate,
            "step_size": parse_eps(attack_step_size) if attack_step_size else None,
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
    with stage_progress() as progress:
        summary = run_pretrain(
            images,
            threat,
            settings,
            tuple(attacks.split(",")),
            out,
            resume=resume,
            progress=progress,
            stopwatch=stopwatch,
        )
    print_rows(summary, out)


def _epochs(text: str | None) -> tuple[int, ...]:
    from heirloom.runtime.errors import require

    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    require(all(part.isdecimal() for part in parts), "keep_epochs", "whole numbers by commas", text)
    return tuple(sorted({int(part) for part in parts}))


def _settings(method: str, adversarial: bool, augmentation: str, **changes: Any) -> PretrainSettings:
    """The paper's settings with what the user changed; None stands for "not given"."""
    from dataclasses import replace

    from heirloom.data.augmentation import CROP_AND_FLIP
    from heirloom.pretraining.settings import CONTRASTIVE_AUGMENTATION, METHODS, paper_settings
    from heirloom.runtime.errors import require

    require(method in METHODS, "--method", f"one of {', '.join(METHODS)}", method)
    base = paper_settings(method)  # type: ignore[arg-type]
    if not adversarial:
        changes["adversarial_epochs"] = 0
    choices = {
        "auto": base.augmentation,
        "crop-flip": CROP_AND_FLIP,
        "contrastive": CONTRASTIVE_AUGMENTATION,
        "none": None,
    }
    require(augmentation in choices, "--augmentation", f"one of {', '.join(choices)}", augmentation)
    for group in ("attack", "training", "contrastive"):
        given = {name: value for name, value in changes.pop(group).items() if value is not None}
        changes[group] = replace(getattr(base, group), **given)
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(base, augmentation=choices[augmentation], **given)
