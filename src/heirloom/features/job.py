"""What ``features build`` does from an encoder and images to a data set, summary.json and report.html."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.features.card import write_card
from heirloom.features.examples import grid_of, matching_split
from heirloom.features.pairing import Pairing, pair
from heirloom.features.saved import SavedSplit, write_split
from heirloom.features.settings import BuildSettings
from heirloom.features.steps import Built, build_batch
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import Summary
from heirloom.results.statistics import mean
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.identity import module_facts
from heirloom.threat import Threat


def build_features(
    encoder: FrozenEncoder,
    name: str,
    data: ImageSource,
    settings: BuildSettings,
    out: Path,
    *,
    threat: Threat | None = None,
    beside: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Build the training and test images of one kind of feature in the folder ``out``.

    Args:
        name: of the kind, on card and page: ``robust``, ``non-robust``, whatever the encoder makes it.
        threat: how far the ``-target`` variants may move an image; ``inverted`` has none.
        beside: a folder built before with the same originals and starts, by another encoder: its images stand beside
            these on the page.
        resume: go on with the interrupted build in ``out``; the outcome is the same bit for bit.

    Raises:
        InputError: data that no pairing can be made of, a folder of another build, a ``beside`` of other images.
    """
    require(
        settings.is_targeted == (threat is not None), "threat", "given for the -target variants alone", threat
    )
    splits = {"train": data.train, "test": data.test}
    pairings, other = paired(data, settings, beside)
    run = Run(out, _facts(encoder, data, settings, threat), resume=resume)
    progress = run.counting(progress)
    finished, work = out / "summary.json", run.path("batches")
    if not finished.exists():
        encoder = encoder.to(settings.device)
        built = {
            split: build_split(
                encoder, images, pairings[split], settings, threat, split=split, work=work, progress=progress
            )
            for split, images in splits.items()
        }
        for split, images in splits.items():
            write_split(out, split, built[split], pairings[split], images.labels, images.classes)
        names = [name, *([beside.name] if beside is not None else [])]
        run.finish(
            "features",
            [_row(split, made) for split, made in built.items()],
            seed=settings.seed,
            device=settings.device,
            threat=threat,
            data=data.used(),
            settings=_shown(encoder, name, data, settings, threat),
            details={"grid": grid_of(data.test, pairings["test"], built["test"], names, other)},
        )
    summary = Summary.read(finished)
    write_card(out, summary)
    shutil.rmtree(work, ignore_errors=True)  # the batches are in the data set now
    return summary


def paired(
    data: ImageSource, settings: BuildSettings, beside: Path | None
) -> tuple[dict[str, Pairing], SavedSplit | None]:
    """The pairs of both splits, and the build that stands beside on the page: all that needs no pass.

    Raises:
        InputError: data that no pairing can be made of, a ``beside`` that is no build or one of other pairs.
    """
    splits = {"train": data.train, "test": data.test}
    pairings = {split: pair(images.labels, settings, split) for split, images in splits.items()}
    return pairings, None if beside is None else matching_split(beside, pairings["test"])


def build_split(
    encoder: FrozenEncoder,
    data: LabelledImages,
    pairing: Pairing,
    settings: BuildSettings,
    threat: Threat | None,
    *,
    split: str,
    work: Path,
    progress: Progress = silent,
) -> Built:
    """All entries of ``pairing``, batch by batch; a finished batch is kept in ``work`` and not made again."""
    parts = []
    for number, rows in enumerate(torch.arange(len(pairing)).split(settings.batch_size)):
        path = work / split / f"{number:05d}.safetensors"
        if not path.exists():
            made = build_batch(encoder, data, pairing, rows, settings, threat, split)
            write_tensors(path, asdict(made))
        parts.append(read_tensors(path)[0])
        error = float(parts[-1]["relative_error"].mean())
        progress(f"build: {split}", int(rows[-1]) + 1, len(pairing), f"relative error {error:.3f}")
    return Built(*(torch.cat([part[field.name] for part in parts]) for field in fields(Built)))


def _facts(
    encoder: FrozenEncoder, data: ImageSource, settings: BuildSettings, threat: Threat | None
) -> dict[str, Any]:
    """All that decides the pixels. The batch size is among it: what is kept of an interrupted run is batches."""
    deciding = {name: value for name, value in asdict(settings).items() if name != "device"}
    return {
        "encoder": module_facts(encoder),
        "data": data.facts(),
        "threat": None if threat is None else [threat.norm, threat.eps],
        **deciding,
    }


def _row(split: str, built: Built) -> dict[str, Any]:
    names = [field.name for field in fields(Built) if field.name != "pixels"]
    return {
        "split": split,
        "images": len(built.pixels),
        **{name: mean(getattr(built, name)) for name in names},
    }


def _shown(
    encoder: FrozenEncoder, name: str, data: ImageSource, settings: BuildSettings, threat: Threat | None
) -> dict[str, Any]:
    told = {"name": name, "encoder": encoder.settings.source, "data": data.name, **asdict(settings)}
    if settings.is_targeted:
        told |= {"start": "itself", "step_rule": "of PGD"}
    return {**told, "threat": str(threat) if threat is not None else None}
