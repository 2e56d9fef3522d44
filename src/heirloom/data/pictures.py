"""Image files as a batch of the shape that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from heirloom.data.hub_images import resized_and_cropped
from heirloom.errors import InputError


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
            raise InputError(f"images must be existing files, but {path} does not exist.") from None
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            raise InputError(f"images must be readable image files, but {path} is not.") from None
        if picture.size != (width, height):
            picture = resized_and_cropped(picture, height)
        array = np.asarray(picture, dtype=np.float32) / 255
        batch.append(array[None] if channels == 1 else array.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(batch))
