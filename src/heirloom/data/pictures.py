"""Image files as a batch of the shape that a model takes; and images as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from heirloom.data.hub_images import resized_and_cropped
from heirloom.runtime.errors import InputError


def read_pictures(paths: Sequence[Path], shape: tuple[int, int, int]) -> Tensor:
    """float32 (N, C, H, W) in [0, 1]: colours as the model takes them, shorter side resized, centre cropped.

    Raises:
        InputError: a file that is missing or no image.
    """
    channels, height, width = shape
    batch = []
    for path in paths:
        try:
            with Image.open(path) as file:
                picture = file.convert("L" if channels == 1 else "RGB")
        except FileNotFoundError:
            raise InputError("images", "existing files", f"{path}, which does not exist") from None
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            raise InputError("images", "readable image files", f"{path}, which is not") from None
        if picture.size != (width, height):
            picture = resized_and_cropped(picture, height)
        array = np.asarray(picture, dtype=np.float32) / 255
        batch.append(array[None] if channels == 1 else array.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(batch))


def image_uri(pixels: np.ndarray[Any, Any]) -> str:
    """One image (C, H, W) or (H, W) with values in [0, 1] as a PNG data URI."""
    array = np.clip(np.asarray(pixels, dtype=np.float64) * 255 + 0.5, 0, 255).astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
