"""Images without labels, for what learns from pictures alone: a flat folder will do."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from heirloom.data.hub_images import column_of, decoded, is_image, some_of
from heirloom.data.images import load_images, pixels_of, read_npz
from heirloom.data.labelled import LabelledImages, Unlabelled
from heirloom.data.pixels import InMemory, Pixels
from heirloom.data.splits import open_splits
from heirloom.runtime.errors import InputError, require

SPLITS = ("unlabelled", "unlabeled", "unsupervised", "train")  # the first that is there is taken
ARRAYS = ("images", "x_train", "train_images")


def load_unlabelled(
    source: str,
    shape: tuple[int, int, int],
    *,
    limit: int | None = None,
    image_column: str | None = None,
    seed: int = 0,
    stream: bool | None = None,
) -> Unlabelled:
    """Load pictures of any labels or none, as images of ``shape`` (C, H, W).

    Args:
        source: as for :func:`heirloom.data.images.load_images`; besides, a flat folder of pictures, parquet without
            labels, and an ``.npz`` of ``images`` alone. Of several splits the unlabelled one, or the training one.
        shape: of the images that the model takes: pictures are resized, cropped and made grey or colour as those are;
            arrays must have it.
        limit: at most so many, drawn with ``seed``. stream: as for ``load_images``.

    Raises:
        InputError: of the argument ``unlabelled``: unknown, empty or corrupt source, or another shape.
    """
    require(limit is None or limit >= 1, "limit_unlabelled", "at least 1", limit)
    try:
        pixels = _pixels(source, shape, limit, image_column, seed, stream)
    except InputError as error:
        argument = {"data": "unlabelled"}.get(error.argument, error.argument)
        raise InputError(argument, error.allowed, error.got) from None
    found = tuple(pixels.shape[1:])
    require(found == shape, "unlabelled", f"images of shape {shape}, as the data's", found)
    images = LabelledImages(pixels, torch.zeros(len(pixels), dtype=torch.long), ("none",))
    return Unlabelled(source, images.limit(limit, seed))


def _pixels(
    source: str,
    shape: tuple[int, int, int],
    limit: int | None,
    image_column: str | None,
    seed: int,
    stream: bool | None,
) -> Pixels:
    if source == "digits":
        return load_images(source).train.pixels
    if source.endswith(".npz"):
        return InMemory(_array(Path(source)))
    splits = open_splits(source, None)
    split = next((splits[name] for name in SPLITS if name in splits), next(iter(splits.values())))
    named = (
        image_column if image_column in split.features else None
    )  # the data's name for it need not be this one's
    column = named or column_of(split, "image_column", is_image)
    channels, height, width = shape
    side = height if height == width else None
    made = decoded(some_of(split, limit, seed), column, side, stream, channels)
    return InMemory(made) if isinstance(made, Tensor) else made


def _array(path: Path) -> Tensor:
    arrays = read_npz(path)
    name = next((name for name in ARRAYS if name in arrays), None)
    if name is None:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise InputError("unlabelled", f"an archive of {' or '.join(ARRAYS)}", f"{path}: {held}")
    return pixels_of(arrays[name], path)
