"""First-layer filters as images: a mosaic, a strip over checkpoints, an animation."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from heirloom.analysis.filters import drawn
from heirloom.report.figures import image_uri

WIDTH, CELL = 640, 64  # pixels of a mosaic, about, and of one filter in it, at most
STAGES, ROWS = 9, 8  # of the strip
FRAMES, MILLISECONDS = 60, 250  # of the animation
Pixels = np.ndarray[Any, Any]


def mosaic(filters: Tensor) -> Pixels:
    """All filters (F, C, k, k), each scaled to [0, 1] by itself, as one picture (C, H, W) in their order."""
    cells = drawn(filters).numpy()
    count, channels, side, _ = cells.shape
    columns = math.ceil(math.sqrt(2 * count))
    scale, rows = max(1, round(min(CELL, WIDTH / columns) / side)), math.ceil(count / columns)
    step = side * scale + 2
    picture = np.ones((channels, rows * step + 2, columns * step + 2))
    for number, cell in enumerate(cells):
        top, left = 2 + number // columns * step, 2 + number % columns * step
        enlarged = cell.repeat(scale, axis=1).repeat(scale, axis=2)
        picture[:, top : top + side * scale, left : left + side * scale] = enlarged
    return picture


def mosaic_uri(filters: Tensor) -> str:
    return image_uri(mosaic(filters))


def strip(stages: Sequence[tuple[str, Tensor]]) -> dict[str, Any]:
    """A grid: one row for each of the filters that end up strongest, one column for each of a few epochs."""
    picked = [stages[i] for i in spaced(len(stages), STAGES)]
    strength = stages[-1][1].flatten(1).norm(dim=1)
    strongest = strength.argsort(descending=True)[:ROWS].sort().values.tolist()
    rows = [
        [f"filter {number}", [[image_uri(drawn(w[number : number + 1])[0].numpy()), ""] for _, w in picked]]
        for number in strongest
    ]
    return {"columns": [stage for stage, _ in picked], "rows": rows}


def animation_uri(frames: Sequence[Tensor]) -> str:
    """The mosaics one after the other as an animated PNG, which browsers play for ever."""
    chosen = [frames[i] for i in spaced(len(frames), FRAMES)]
    pictures = [_picture(mosaic(w)) for w in chosen]
    buffer = io.BytesIO()
    # the last frame stays for a while, so that a viewer sees where it ends
    durations = [MILLISECONDS] * (len(pictures) - 1) + [2000]
    pictures[0].save(
        buffer, format="PNG", save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def spaced(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, evenly spaced, first and last included."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _picture(pixels: Pixels) -> Image.Image:
    array = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
