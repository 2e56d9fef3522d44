"""Epochs whose encoder a run keeps: to see what was learned when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from heirloom.networks.backbones import Backbone, save_backbone
from heirloom.runtime.files import write_tensors

FOLDER = "kept"


@dataclass(frozen=True)
class KeptEpoch:
    """``folder`` holds ``encoder/`` and, where the run has a classifier, ``head.safetensors``, as a run does."""

    phase: str
    epoch: int
    folder: Path


def keep_epoch(run: Path, phase: str, epoch: int, encoder: Backbone, head: nn.Module | None) -> None:
    """Save the encoder as it is after ``epoch`` (from 1) of ``phase``, with its head."""
    folder = run / FOLDER / f"{phase}-{epoch:04d}"
    if head is not None:
        write_tensors(folder / "head.safetensors", head.state_dict())
    save_backbone(folder / "encoder", encoder, {"phase": phase, "epoch": epoch})


def kept_epochs(run: Path) -> list[KeptEpoch]:
    """What the run in the folder ``run`` has kept, in the order of training."""
    found = []
    for folder in (run / FOLDER).glob("*-[0-9]*"):
        phase, _, epoch = folder.name.rpartition("-")
        if (folder / "encoder" / "config.json").exists():
            found.append(KeptEpoch(phase, int(epoch), folder))
    return sorted(found, key=lambda kept: (kept.phase != "clean", kept.epoch))
