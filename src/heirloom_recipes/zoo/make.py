"""``heirloom reproduce zoo``: every member made, defended, measured, and all of them compared.

    heirloom reproduce zoo --scale small --data mnist=DATA/mnist --data cifar10=DATA/cifar10 ...

OUT/NAME is a saved defence (card, figures, audit, page) that ``heirloom show`` and ``evaluate`` take; OUT/report.html
compares them. A data set that is not within reach is told under "not covered", and so is, until the command is run
again, what ``--minutes`` left no time for. Weights stay where they were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
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
from heirloom.results.schema import DataUsed, Summary
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import InputError, reject
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.catalogue import OutOfTimeError
from heirloom_recipes.zoo.members import MEMBERS, Member, Size

ATTACKS = ("pgd-20", "cascade")


def zoo(
    scale: str,
    out: Path,
    *,
    sources: dict[str, str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    minutes: float | None = None,
) -> Summary:
    """Make what is not made yet, one member after the other, and compare all.

    Raises:
        InputError: ``sources`` names a member that is not there, or ``out`` holds another zoo.
        OutOfTimeError: ``minutes`` are over; finished members are kept, and the page shows them.
    """
    given, told, begun = dict(sources or {}), progress or silent, time.perf_counter()
    names = [member.name for member in MEMBERS]
    for name in given:
        if name not in names:
            reject("data", f"named {', '.join(names)}", name)
    facts = {"scale": scale, "seed": seed, "members": [_facts(member, scale) for member in MEMBERS]}
    run = Run(out, {**facts, "sources": given}, resume=True)
    rows, missing, late = [], [], list[str]()
    for number, member in enumerate(MEMBERS):
        made = (run.folder / "work" / "stages" / f"{member.name}.json").exists()
        if not made and minutes is not None and time.perf_counter() - begun > 60 * minutes:
            late.append(member.name)
            continue
        told("zoo", number, len(MEMBERS), member.name)
        found = run.stage(member.name, _made(member, scale, given.get(member.name), out, seed, device, told))
        rows += [found["row"]] if "row" in found else []
        missing += [found["missing"]] if "missing" in found else []
    told("zoo", len(MEMBERS) - len(late), len(MEMBERS), "")
    summary = run.finish(
        "zoo",
        rows,
        seed=seed,
        device=device,
        data=DataUsed(name=", ".join(names), train=0, test=0, digest="of each row's own"),
        settings={"scale": scale, "attacks": ", ".join(ATTACKS)},
        details={"not covered": [*missing, *(f"{name} (the time was over before it)" for name in late)]},
    )
    if late:
        raise OutOfTimeError
    return summary


def _facts(member: Member, scale: str) -> dict[str, Any]:
    return {**asdict(replace(member, sizes={})), "size": asdict(member.sizes[scale])}


def _made(
    member: Member, scale: str, source: str | None, out: Path, seed: int, device: str, told: Progress
) -> Callable[[], dict[str, Any]]:
    """A stage: the member's row, or why it is missing where its images or its model are not within reach."""
    size = member.sizes[scale]

    def make() -> dict[str, Any]:
        try:
            data = load_images(source or member.source, limit=size.train, limit_test=size.test, seed=seed)
            encoder = _foundation(member, data, size, out / member.name, seed, device, told)
        except InputError as error:
            if source is not None:
                raise
            return {"missing": f"{member.name} ({error})"}
        return {"row": _defended(member, data, encoder, size, out / member.name, seed, device, told)}

    return make


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
        curve_images=min(64, size.test),
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
