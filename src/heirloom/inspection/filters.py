"""The filters that a run kept, drawn and measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from heirloom.analysis.filters import purity
from heirloom.report.filters import animation_uri, mosaic_uri, strip
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors


def filter_details(
    runs: list[tuple[str, Path]], filters: dict[str, torch.Tensor] | None = None
) -> list[dict[str, Any]]:
    """Drawings of each encoder's first layer and, where its run kept them, of every epoch's."""
    found = []
    for name, folder in runs:
        stages = evolution(folder)
        current = filters[name] if filters is not None else stages[-1][1]
        detail: dict[str, Any] = {"name": name, "mosaic": mosaic_uri(current)}
        if len(stages) > 1:
            detail["strip"] = strip(stages)
            detail["animation"] = animation_uri([w for _, w in stages])
            detail["measures"] = [{"stage": stage, **plain(purity(w))} for stage, w in stages]
        found.append(detail)
    return found


def evolution(folder: Path) -> list[tuple[str, torch.Tensor]]:
    """(stage, filters) of every epoch that the run in ``folder`` kept, oldest first; ``folder`` may be the run
    or its encoder."""
    kept = folder / "filters"
    if not kept.is_dir():
        kept = folder.parent / "filters"
    stages = []
    for path in sorted(kept.glob("*.safetensors")):
        tensors, metadata = read_tensors(path)
        if "filters" not in tensors:
            raise InputError(str(path), "the filters of an epoch", "something else")
        stages.append((f"{metadata['phase']} {metadata['epoch']}", tensors["filters"]))
    return stages


def plain(intervals: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}
