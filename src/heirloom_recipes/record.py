"""Keep a run: ``python -m heirloom_recipes.record runs/demo results/defend/digits-demo.json``.

The summary goes under results/ without the example images, which are the bulk of it and no figures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from heirloom.results.schema import Summary


def record(run: Path, place: Path) -> Summary:
    """Write the summary of the folder ``run`` to ``place`` without its images, and return it."""
    summary = Summary.read(run / "summary.json")
    kept = summary.model_copy(update={"details": _without_images(summary.details)})
    kept.write(place)
    return kept


def _without_images(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_images(item) for key, item in value.items() if key != "examples"}
    return [_without_images(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    record(Path(sys.argv[1]), Path(sys.argv[2]))
