"""Drawings as data URIs: matplotlib in, ``data:image/...`` out."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from heirloom.data.pictures import image_uri

__all__ = ["COLOURS", "data_uri", "image_uri", "new_axes"]

# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.figsize": (6.4, 3.8),
        "font.size": 11,
        "svg.hashsalt": "heirloom",
    }
)


def new_axes(columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure without pyplot's global state, and its axes (an array where ``columns`` > 1)."""
    figure = Figure(layout="constrained", **options)
    return figure, figure.subplots(1, columns)


def data_uri(figure: Figure) -> str:
    """The figure as an SVG data URI on no ground of its own; the same figure gives the same bytes.

    In a dark page the template inverts such drawings (and no photograph), so that they are read there, too.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
