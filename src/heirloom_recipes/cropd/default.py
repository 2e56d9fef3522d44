"""Which method deserves to be the default of ``defend``? Every candidate on every data set that the scale covers,
judged in the worst case on images held out of the training images: what is chosen here is not chosen on test images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.defence.choose import CANDIDATES, recommended
from heirloom.defence.remarks import unpacked
from heirloom.results.schema import Summary
from heirloom.results.statistics import paired_difference
from heirloom_recipes.cropd.beside import beside
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner


def default(scale: str, out: Path, **options: Any) -> Summary:
    """The recipe ``cropd/default``: each data set's candidates, each beside the one that is the default there today.

    ``ahead`` of a row: its worst-case accuracy minus that of the default, paired on the same images; None for the
    default itself and for the controls of ``distil``.
    """
    place = out / "default"  # its foundations see fewer images than those of the other recipes in ``out``
    runner = Runner(scale, place, held_out=True, **options)
    names = [name for name in runner.scale.datasets if runner.covers(Cell(name, "identity"))]
    rows = [row for name in names for row in _of_images(runner, name)]
    return runner.run.finish(
        "cropd-default",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=runner.scale.threat(Cell(names[-1], "identity")),
        data=runner.data(names[-1]).used(),
        settings={
            "scale": scale,
            "attacks": ", ".join(runner.scale.attacks),
            "eps": ", ".join(
                f"{name} {runner.scale.threat(Cell(name, 'identity')).eps:.4g}" for name in names
            ),
            "foundation": "given" if runner.scale.foundation else runner.scale.network,
        },
        details={"images": {name: runner.data(name).used().model_dump() for name in names}},
        seconds=runner.run.seconds,
    )


def _of_images(runner: Runner, name: str) -> list[dict[str, Any]]:
    """The rows of one data set: nothing in front, the candidates, and the controls that ``distil`` brings."""
    cells = [Cell(name, method) for method in ("identity", *CANDIDATES)]
    kept = {cell.method: runner.row(cell) for cell in cells}
    usual = recommended(runner.data(name).train.shape)
    rows = [_row(name, method, row, kept[usual], usual) for method, row in kept.items()]
    controls = beside(runner, Cell(name, "distil"))
    return rows + [_row(name, f"distil, {control}", row, None, usual) for control, row in controls.items()]


def _row(
    name: str, method: str, row: dict[str, Any], against: dict[str, Any] | None, usual: str
) -> dict[str, Any]:
    """Figures of one row, and how far it is ``ahead`` of the default's row ``against``."""
    worst = list(unpacked(row["right"]))[-1]
    ahead = None
    if against is not None and method not in ("identity", usual):
        pair = (unpacked(kept["right"])[worst] for kept in (row, against))
        ahead = paired_difference(*pair).model_dump()
    return {
        "defence": f"{name}, {method}",
        "data": name,
        "method": method,
        "is default": method == usual,
        **row["figures"],
        "ahead": ahead,
        "seconds": row["seconds"],
    }
