"""How every recipe of this paper begins and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.results.schema import Summary
from heirloom.runs import Progress, silent
from heirloom_recipes.features.laboratory import Laboratory
from heirloom_recipes.features.scales import scale_settings


def open_laboratory(
    scale: str,
    out: Path,
    *,
    sources: dict[str, str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    minutes: float | None = None,
) -> Laboratory:
    """The laboratory in ``out``, which the recipes share; a command that was cut off goes on.

    Raises:
        InputError: ``out`` holds another scale, other data or another seed.
    """
    return Laboratory(
        scale_settings(scale, device),
        out,
        sources=sources or {},
        seed=seed,
        device=device,
        progress=progress,
        minutes=minutes,
    )


def finish(
    laboratory: Laboratory,
    table: str,
    rows: list[dict[str, Any]],
    details: dict[str, Any],
    other: dict[str, str] | None = None,
) -> Summary:
    """Write ``out/<table>/summary.json`` and its page; ``other``: settings that are not the laboratory's."""
    scale = laboratory.scale
    settings = {
        "table": table,
        "scale": scale.name,
        "seeds": len(laboratory.seeds),
        "data": ", ".join(f"{name} = {laboratory.sources[name]}" for name in laboratory.loaded),
        "training images": scale.limit,
        "networks": ", ".join(
            f"{data}: {training.network}" for data, training in laboratory.datasets.items()
        ),
        "threats": ", ".join(f"{data}: {laboratory.threat(data)}" for data in laboratory.datasets),
        "inversion": f"{scale.build.steps} {scale.build.step_rule} steps on {scale.built} test images",
        "robust accuracy": f"{scale.attack} on {scale.attacked} test images",
        "feature attacks": f"{scale.attack_steps} steps",
    }
    left_out = [data for data in scale.training if data not in laboratory.datasets]
    return laboratory.run.finish(
        "features-recipe",
        rows,
        seed=laboratory.seed,
        device=laboratory.device,
        settings=settings | (other or {}),
        details={**details, "not covered": left_out},
        into=table,
    )
