"""The app's static twin: the same pictures attacked beforehand, as one self-contained page with a slider."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template, select_autoescape
from torch import Tensor

from heirloom.data.pictures import image_uri
from heirloom.objectives.defences import caveats
from heirloom.report.tables import accuracy_table
from heirloom.runtime.errors import require
from heirloom.runtime.files import write_text
from heirloom.show.attacked import Asked, Outcome, attack_sample, verdict
from heirloom.show.opened import Opened, Sample

FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)  # of the threat's eps
PICTURES = 6
STEPS = 20


def write_twin(opened: Sequence[Opened], pictures: Sequence[Sample], path: Path) -> None:
    """Write ``path``: every defence, the first pictures, five radii, attacked as the app does with its first settings.

    Raises:
        InputError: there is no picture to attack.
    """
    require(bool(pictures), "data", "given where the folder has no pictures of its own", "nothing")
    scenes = [_scenes(found, pictures[:PICTURES]) for found in opened]
    names = [sample.name for sample in pictures[:PICTURES]]
    tables = [_table(found) for found in opened]
    page = _template().render(scenes=scenes, names=names, tables=tables, steps=STEPS)
    write_text(path, page + "\n")


def _scenes(found: Opened, pictures: Sequence[Sample]) -> dict[str, Any]:
    radii = [factor * found.threat.eps for factor in FACTORS]
    shown = [
        [_scene(found, attack_sample(found, sample, Asked("PGD", eps, STEPS))) for eps in radii]
        for sample in pictures
    ]
    return {"name": found.name, "norm": found.threat.norm, "radii": radii, "shown": shown}


def _scene(found: Opened, outcome: Outcome) -> dict[str, Any]:
    drawn: dict[str, Tensor] = {
        "before": outcome.before,
        "after: the adversarial picture": outcome.after,
        "change, amplified": outcome.change,
        "before, as the preprocessor hands it on": outcome.seen_before,
        "after, as the preprocessor hands it on": outcome.seen_after,
    }
    said = [
        (f"{where} it, {when}" if where == "without" else f"with the defence, {when}", _best(found, values))
        for where, pair in outcome.probabilities.items()
        for when, values in zip(("before", "after"), pair, strict=True)
    ]
    return {
        "verdict": verdict(found, outcome),
        "pictures": {name: image_uri(pixels.numpy()) for name, pixels in drawn.items()},
        "said": said,
    }


def _best(found: Opened, probabilities: Tensor, most: int = 3) -> list[tuple[str, float]]:
    top = probabilities.topk(min(most, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(found.model.classes[index], round(value, 4)) for index, value in pairs]


def _table(found: Opened) -> dict[str, Any] | None:
    if found.summary is None:
        return None
    columns, rows = accuracy_table(found.summary.rows)
    warned = [remark["warning"] for remark in found.summary.details.get("remarks", [])]
    warned = [*caveats(row.get("defence", "") for row in found.summary.rows), *warned]
    about = f"{found.summary.threat}, {found.summary.data}"
    return {
        "columns": columns,
        "rows": rows,
        "about": about,
        "command": found.summary.command,
        "warned": warned,
    }


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True)
    )
    return environment.get_template("twin.html")
