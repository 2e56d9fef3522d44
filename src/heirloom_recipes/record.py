"""Keep a run: ``python -m heirloom_recipes.record runs/demo results/defend/digits-demo.json``.

The summary goes under results/ without the example images, which are the bulk of it and no figures, and without
paths of the machine: what lies in the repository by its path there, data as ``DATA/name``.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from heirloom.report.pages import PAGES, draw
from heirloom.results.schema import Summary

ROOT = Path(__file__).parents[2]
SHARED_DATA = re.compile(r"(?<![\w.])[\w./-]*shared/data\b")
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:[\w.+-]+/)+(?=[\w.+-])")  # up to the last name, which is kept
MACHINE_PATH = re.compile(r"(?<![\w.:/<])/(?:work|tmp|root|home|mnt|var|Users)/[\w./-]+|shared/data")


def record(run: Path, place: Path) -> Summary:
    """Write the summary of the folder ``run`` to ``place`` without images and paths, and return it."""
    summary = Summary.read(run / "summary.json").model_dump(mode="json")
    summary["details"] = _without_images(summary["details"])
    kept = Summary.model_validate(portable(summary))
    with tempfile.TemporaryDirectory() as scratch:  # what cannot be drawn again is no record
        if kept.kind in PAGES:
            draw(kept, Path(scratch))
    kept.write(place)
    return kept


def portable(value: Any) -> Any:
    """``value`` with every path in it relative to the repository, or to ``DATA``; drawings are left alone."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, str) or value.startswith("data:"):
        return value
    text = SHARED_DATA.sub("DATA", value).replace(f"{ROOT}/", "")
    return ABSOLUTE.sub("runs/", text) if MACHINE_PATH.search(text) else text


def _without_images(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_images(item) for key, item in value.items() if key != "examples"}
    return [_without_images(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    record(Path(sys.argv[1]), Path(sys.argv[2]))
