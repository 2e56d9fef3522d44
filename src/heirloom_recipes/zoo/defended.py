"""One member of the zoo: its images, its frozen model, its defence, and the row that the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.defence.demo import pretrain_foundation
from heirloom.defence.job import defend
from heirloom.defence.settings import DefendSettings, DistilSettings, PreprocessorSettings
from heirloom.evaluation.leaderboard import read_entries
from heirloom.heads.linear import HeadSettings
from heirloom.heads.ready import pooling_for, ready_head
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.models.preprocessor import parameter_count
from heirloom.pretraining.job import pretrain_job
from heirloom.pretraining.settings import paper_settings
from heirloom.runs import Progress
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.zoo.members import Member, Size

ATTACKS = ("pgd-20", "cascade")


def within_reach(member: Member, scale: str, source: str | None, seed: int) -> ImageSource:
    """The member's images, once its model is known to be there too.

    Raises:
        InputError: the images, or the factory of the frozen model, cannot be loaded here.
    """
    size = member.sizes[scale]
    if member.made not in ("simclr", "supervised"):
        load_encoder(EncoderSettings(member.made))
    return load_images(source or member.source, limit=size.train, limit_test=size.test, seed=seed)


def row_of(
    member: Member, data: ImageSource, scale: str, folder: Path, seed: int, device: str, told: Progress
) -> dict[str, Any]:
    """Make the member in ``folder``, going on with what is there, and return its row."""
    size = member.sizes[scale]
    encoder = _foundation(member, data, size, folder, seed, device, told)
    return _defended(member, data, encoder, size, folder, seed, device, told)


def _foundation(
    member: Member, data: ImageSource, size: Size, folder: Path, seed: int, device: str, told: Progress
) -> FrozenEncoder:
    """The frozen model, made where it is not there yet; its training never sees a test image."""
    if member.made == "simclr":
        place = folder / "foundation"
        if not (place / "preprocessor_config.json").exists():
            pretrain_foundation(data.train, place, epochs=size.foundation_epochs, seed=seed)
        return load_encoder(EncoderSettings(str(place)))
    if member.made != "supervised":
        return load_encoder(EncoderSettings(member.made))
    paper = paper_settings("supervised")
    size_of_batch = min(128, max(2, len(data.train) // 8))
    training = replace(
        paper.training,
        batch_size=size_of_batch,
        seed=seed,
        device=device,
        mixed_precision=member.precision,
    )
    settings = replace(
        paper,
        network=member.network,
        clean_epochs=size.foundation_epochs,
        adversarial_epochs=0,
        schedule="cosine",
        warmup=1,
        validation=_held_out(data),
        augmentation=paper.augmentation if member.name == "cifar10" else None,
        training=training,
    )
    pretrain_job(
        data,
        Threat("Linf", member.eps),
        settings,
        ("fgsm",),
        folder / "foundation",
        resume=True,
        progress=told,
    )
    pooling = pooling_for("own" if member.keeps_head else "linear", "auto")
    return load_encoder(EncoderSettings(str(folder / "foundation" / "encoder"), pooling=pooling))


def _held_out(data: ImageSource) -> float:
    """The share that every class can spare: at smoke size a class has a handful of images."""
    return 0.1 if len(data.train) >= 1000 else 0.3


def _defended(
    member: Member,
    data: ImageSource,
    encoder: FrozenEncoder,
    size: Size,
    folder: Path,
    seed: int,
    device: str,
    told: Progress,
) -> dict[str, Any]:
    training = TrainingSettings(
        epochs=size.epochs,
        batch_size=min(128, max(2, len(data.train) // 4)),
        learning_rate=member.learning_rate,
        weight_decay=0.05,
        warmup=0.1,
        seed=seed,
        device=device,
        mixed_precision=member.precision,
    )
    kept = ready_head("own", encoder, data.train) if member.keeps_head else None
    settings = DefendSettings(
        threat=Threat("Linf", member.eps),
        defence=PreprocessorSettings(
            method=member.method,
            architecture=member.architecture,
            sigma=member.eps * 4,
            distil=DistilSettings(targets="head" if kept is not None else "features"),
            training=training,
        ),
        validation=_held_out(data),
        head=HeadSettings(epochs=size.head_epochs, seed=seed),
        attacks=ATTACKS,
        audit_examples=size.audit,
        curve_images=min(size.curve, size.test),
    )
    model, summary = defend(encoder, data, settings, folder, head=kept, resume=True, progress=told)
    entries = {entry.name: entry for entry in read_entries([folder])}
    bare, entry = entries["identity"], entries[member.method]
    return {
        "model": member.name,
        "foundation": member.made if member.made != "supervised" else f"{member.network}, supervised",
        "defence": member.method,
        "threat": str(settings.threat),
        "bare_clean": bare.clean,
        "bare_worst": bare.worst,
        "clean": entry.clean,
        "worst": entry.worst,
        "by": entry.by,
        "audit": entry.audit,
        "parameters": parameter_count(model.preprocessor),
        "foundation_parameters": parameter_count(encoder),
        "digest": "" if summary.data is None else summary.data.digest,
        "seconds": summary.seconds,
        "warnings": [remark["warning"] for remark in summary.details["remarks"]],
        "folder": member.name,
    }
