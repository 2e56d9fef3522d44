"""The pictures of the documentation, each from recorded runs: ``python -m heirloom_recipes.pictures``.

Pictures of images cannot come from a record, which leaves them out: ``python -m heirloom_recipes.pictures RUN`` draws
those from the folder of the run whose command the record tells.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError, require
from heirloom_recipes.cropd.bound_page import bound_drawing
from heirloom_recipes.cropd.page import trade_off_drawing
from heirloom_recipes.cropd.paintings_page import cost_of_likeness_drawing, paintings_drawing
from heirloom_recipes.sparse_coding.gate_drawings import share_of_the_open_map

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "docs" / "pictures"


def _record(name: str) -> Summary:
    return Summary.read(ROOT / "results" / f"{name}.json")


def _gap_over_the_gate() -> Any:
    """The gap of clean-trained heads over eps / c_b."""
    found = [_record(f"sparse-coding/gate-aware-inherit-{name}") for name in ("trained", "built")]
    rows = [row for summary in found for row in summary.rows]
    return share_of_the_open_map(rows, found[0].details["inherit"]["c_b"])


DRAWN: dict[str, Callable[[], Any]] = {
    "gap-over-the-gate.png": _gap_over_the_gate,
    "trade-off-digits.png": lambda: trade_off_drawing(_record("cropd/trade-off-digits")),
    "trade-off-cifar10.png": lambda: trade_off_drawing(_record("cropd/trade-off-cifar10")),
    "bound-digits.png": lambda: bound_drawing(_record("cropd/bound").rows),
    "cost-of-likeness.png": lambda: cost_of_likeness_drawing(_record("cropd/paintings-cifar10")),
}

FROM_RUNS: dict[str, tuple[str, Callable[[Summary], Any]]] = {  # by the kind of run
    "cropd-paintings": ("paintings.png", paintings_drawing)
}


def pictures(folder: Path = PLACE) -> list[Path]:
    """Draw them all into ``folder`` (PNG)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        draw().savefig(folder / name, dpi=72, metadata={"Software": None})
    return [folder / name for name in DRAWN]


def of_run(run: Path, folder: Path = PLACE) -> Path:
    """Draw the images of a run into ``folder`` (PNG of 256 colours)."""
    wanted = f"the folder of a run of {', '.join(FROM_RUNS)} that kept its images"
    require((run / "summary.json").is_file(), "RUN", wanted, str(run))
    summary = Summary.read(run / "summary.json")
    require(
        summary.kind in FROM_RUNS and "examples" in summary.details, "RUN", wanted, f"{run} ({summary.kind})"
    )
    name, draw = FROM_RUNS[summary.kind]
    buffer = io.BytesIO()
    draw(summary).savefig(buffer, dpi=100, metadata={"Software": None})
    folder.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(256).save(folder / name, optimize=True)
    return folder / name


if __name__ == "__main__":
    try:
        print(*([of_run(Path(sys.argv[1]))] if sys.argv[1:] else pictures()), sep="\n")
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
