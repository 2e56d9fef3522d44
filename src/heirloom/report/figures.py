"""Drawings as data URIs: matplotlib in, ``data:image/...`` out."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

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
    """The figure as an SVG data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def image_uri(pixels: np.ndarray[Any, Any]) -> str:
    """One image (C, H, W) or (H, W) with values in [0, 1] as a PNG data URI."""
    array = np.clip(np.asarray(pixels, dtype=np.float64) * 255 + 0.5, 0, 255).astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
