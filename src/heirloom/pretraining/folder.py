"""What a run of pre-training leaves in its folder beside the checkpoints, and takes over from another run's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heirloom.analysis.filters import first_layer
from heirloom.networks.backbones import Backbone, save_backbone
from heirloom.pretraining.settings import PretrainSettings
from heirloom.runtime import distributed
from heirloom.runtime.files import write_bytes, write_tensors
from heirloom.threat import Threat


def save_filters(folder: Path, encoder: Backbone, phase: str, epoch: int) -> None:
    """The first layer after ``epoch`` of ``phase``; ``initial``: before training."""
    if distributed.rank() > 0:
        return
    order = {"initial": 0, "clean": 1, "adversarial": 2}[phase]
    path = folder / "filters" / f"{order}-{phase}-{epoch:04d}.safetensors"
    write_tensors(path, {"filters": first_layer(encoder)}, {"phase": phase, "epoch": str(epoch)})


def save_pretrained(
    folder: Path,
    encoder: Backbone,
    head: Any,
    threat: Threat,
    settings: PretrainSettings,
    classes: Sequence[str],
) -> None:
    """``encoder/`` with notes of its training, and ``head.safetensors`` where there is a head."""
    epochs = {p: settings.epochs_of(p) for p in settings.phases}
    notes: dict[str, Any] = {"method": settings.method, "epochs": epochs}
    notes |= {"classes": list(classes)} if head is not None else {}
    notes |= {"threat": asdict(threat)} if settings.adversarial_epochs else {}
    if distributed.rank() > 0:
        return
    if head is not None:
        write_tensors(folder / "head.safetensors", head.state_dict())
    save_backbone(folder / "encoder", encoder, notes)


def take_over_clean_phase(source: Path, folder: Path) -> None:
    """Let a run in ``folder`` start (with ``resume``) from the finished clean phase of the run in ``source``.

    Settings of the clean phase that differ are noticed: ``pretrain`` refuses the checkpoint.
    """
    for part in ("checkpoints/clean.safetensors", "best/clean.safetensors"):
        if (source / part).exists() and not (folder / part).exists():
            write_bytes(folder / part, (source / part).read_bytes())
    for path in sorted((source / "filters").glob("*-clean-*.safetensors")):
        if not (folder / "filters" / path.name).exists():
            write_bytes(folder / "filters" / path.name, path.read_bytes())
