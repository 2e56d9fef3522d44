"""A confusion matrix, and clean accuracy against that under attack, as drawings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure
from heirloom.report.tables import LABELS
from heirloom.results.schema import Proportion

NUMBERS = 12  # classes up to which every cell has its number


def confusion_figure(counts: Sequence[Sequence[int]], classes: Sequence[str], caption: str) -> Figure:
    """``counts[true][said]``, each row scaled to its own sum: the diagonal is what is classified rightly."""
    table = np.asarray(counts, dtype=np.float64)
    shares = table / table.sum(1, keepdims=True).clip(1)
    side = 1.6 + 0.34 * min(len(classes), 24)
    figure, axes = new_axes(figsize=(side + 0.4, side))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=90, fontsize=8)
    axes.set_yticks(places, classes, fontsize=8)
    axes.set(xlabel="said", ylabel="true")
    axes.spines[:].set_visible(False)
    if len(classes) <= NUMBERS:
        for row, column in np.argwhere(table > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{int(table[row, column])}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    return Figure(caption, data_uri(figure))


def trade_off_figure(rows: Sequence[dict[str, Any]], worst: str) -> Figure:
    """One mark a row: clean accuracy to the right, accuracy under the attack ``worst`` upwards, with intervals."""
    figure, axes = new_axes(figsize=(6.4, 4.2))
    for number, row in enumerate(rows):
        clean, robust = (Proportion.model_validate(row[key]) for key in ("clean", worst))
        spans = [[[100 * (p.value - p.low)], [100 * (p.high - p.value)]] for p in (clean, robust)]
        marker = "osD^vP*X"[number % 8]
        size = 9 if row is rows[-1] else 6
        axes.errorbar(
            100 * clean.value,
            100 * robust.value,
            xerr=spans[0],
            yerr=spans[1],
            fmt=marker,
            ms=size,
            capsize=2,
            label=str(row["defence"]),
        )
    axes.set(
        xlim=(0, 101),
        ylim=(0, 101),
        xlabel="clean accuracy (%)",
        ylabel=f"accuracy under {LABELS.get(worst, worst)} (%)",
    )
    axes.legend(frameon=False, fontsize=9)
    caption = (
        "What each costs and gives: to the right is better on clean images, upwards under attack. Whiskers are 95 % "
        "intervals over the images; the last of the list is the one that was saved."
    )
    return Figure(caption, data_uri(figure))
