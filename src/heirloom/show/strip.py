"""What a defence does, in one picture: test pictures attacked with it and without it, and what was measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from heirloom.objectives.defences import caveats
from heirloom.report.figures import COLOURS, new_axes
from heirloom.report.tables import LABELS, is_proportion
from heirloom.runtime.errors import require
from heirloom.runtime.files import write_bytes
from heirloom.show.attacked import Asked, Outcome, attack_sample
from heirloom.show.opened import Opened, Sample

ROWS, STEPS = 3, 20
TITLES = ("before", "attacked,\nnothing in front", "attacked,\ndefence included", "what the model\nthen sees")


def write_strip(opened: Opened, pictures: Sequence[Sample], path: Path) -> None:
    """Write ``path`` (PNG): the first pictures, whatever they show, attacked on the bare model and on the whole; under
    each what is said of it; beside them the measured accuracies with their 95 % intervals.

    Raises:
        InputError: no picture, or nothing was measured.
    """
    require(bool(pictures), "data", "given where the folder has no pictures of its own", "nothing")
    require(
        opened.summary is not None,
        "folders",
        "one that was measured",
        f"{opened.name} without a summary.json",
    )
    count = min(ROWS, len(pictures))
    figure, axes = new_axes(figsize=(11, 1.15 + 1.65 * count))
    figure.delaxes(axes)
    grid = figure.add_gridspec(count, 7, width_ratios=[1, 1, 1, 1, 0.35, 1.6, 1.6])
    for row, sample in enumerate(pictures[:count]):
        for column, (pixels, words, wrong) in enumerate(_cells(opened, sample)):
            _draw(
                figure.add_subplot(grid[row, column]),
                pixels,
                words,
                wrong,
                TITLES[column] if row == 0 else "",
            )
    _bars(figure.add_subplot(grid[:, 5:]), opened)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    write_bytes(path, content.getvalue())


def _cells(opened: Opened, sample: Sample) -> list[tuple[Tensor, str, bool]]:
    """(pixels, what is said, whether it is wrong) of a row."""
    whole = Asked("PGD", opened.threat.eps, STEPS)
    both = attack_sample(opened, sample, whole)
    bare = attack_sample(opened, sample, replace(whole, whole=False))
    right = opened.model.classes[both.reference]
    told = _said(opened, bare, "without"), _said(opened, both, "with")
    return [
        (both.before, right, False),
        (bare.after, told[0], told[0] != right),
        (both.after, told[1], told[1] != right),
        (both.seen_after, "", False),
    ]


def _said(opened: Opened, outcome: Outcome, key: str) -> str:
    return opened.model.classes[int(outcome.probabilities[key][1].argmax())]


def _draw(place: Any, pixels: Tensor, words: str, wrong: bool, title: str) -> None:
    shown = pixels.numpy()
    array = shown[0] if shown.shape[0] == 1 else shown.transpose(1, 2, 0)
    place.imshow(array, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    place.set_title(title, fontsize=9)
    place.set(xticks=[], yticks=[])
    place.set_xlabel(words, color="#b00020" if wrong else "#1c1c1e", fontsize=10)


def _bars(place: Any, opened: Opened) -> None:
    """Every row of the table, a bar a column with its interval."""
    assert opened.summary is not None
    rows = opened.summary.rows
    columns = [name for name, value in rows[0].items() if is_proportion(value)]
    width = 0.8 / len(rows)
    for number, row in enumerate(rows):
        values = [row[name] for name in columns]
        heights = [100 * value["value"] for value in values]
        spread = [
            [100 * (v["value"] - v["low"]) for v in values],
            [100 * (v["high"] - v["value"]) for v in values],
        ]
        where = [index + (number - (len(rows) - 1) / 2) * width for index in range(len(columns))]
        place.bar(
            where,
            heights,
            width,
            yerr=spread,
            color=COLOURS[number % len(COLOURS)],
            label=row["defence"],
            capsize=2,
        )
    place.set_xticks(range(len(columns)), [LABELS.get(name, name) for name in columns])
    place.set(ylim=(0, 105), ylabel="right, % (95 % intervals)")
    n = rows[0]["clean"]["n"]
    told = [caveat.partition(";")[0] for caveat in caveats(row["defence"] for row in rows)]
    title = f"{n} test images, {opened.summary.threat}, white-box, worst case"
    place.set_title("\n".join([title, *told]), fontsize=9)
    place.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.97))
