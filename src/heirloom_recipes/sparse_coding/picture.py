"""The picture of docs/sparse-coding.md, from recorded runs: ``python -m heirloom_recipes.sparse_coding.picture``."""

from __future__ import annotations

from pathlib import Path

from heirloom.results.schema import Summary
from heirloom_recipes.sparse_coding.gate_drawings import share_of_the_open_map

ROOT = Path(__file__).parents[3]
RECORDS = ("gate-aware-inherit-trained", "gate-aware-inherit-built")
PLACE = ROOT / "docs" / "pictures" / "gap-over-the-gate.png"


def picture(place: Path = PLACE) -> Path:
    """Draw the gap of clean-trained heads over eps / c_b to ``place`` (PNG)."""
    found = [Summary.read(ROOT / "results" / "sparse-coding" / f"{name}.json") for name in RECORDS]
    figure = share_of_the_open_map(
        [row for summary in found for row in summary.rows], found[0].details["inherit"]["c_b"]
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place, dpi=72, metadata={"Software": None})
    return place


if __name__ == "__main__":
    print(picture())
