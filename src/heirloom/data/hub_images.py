"""Image sources that the ``datasets`` library reads: hub ids, folders of parquet, folders of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from heirloom.data.labelled import TEST_SHARE, LabelledImages, labelled
from heirloom.runtime.errors import InputError, reject, require

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")
DEFAULT_SIZE = 224
Splits = tuple[LabelledImages, LabelledImages]


def load_splits(
    source: str,
    image_size: int | None,
    limits: tuple[int | None, int | None],
    image_column: str | None,
    label_column: str | None,
    revision: str | None,
    seed: int,
) -> Splits:
    """Train and test images of ``source`` (see :func:`heirloom.data.images.load_images`)."""
    splits = _open(source, revision)
    train_split = splits.get("train") or next(iter(splits.values()))
    test_split = next((splits[n] for n in ("test", "validation", "valid", "val") if n in splits), None)
    image = image_column or _column(train_split, "image_column", _is_image)
    label = label_column or _column(train_split, "label_column", _is_label)
    for name, argument in ((image, "image_column"), (label, "label_column")):
        require(name in train_split.features, argument, f"one of {', '.join(train_split.features)}", name)
    if test_split is None:
        whole = _decode(train_split, image, label, image_size, None, seed)
        return whole.split(TEST_SHARE, seed=0)
    train = _decode(train_split, image, label, image_size, limits[0], seed)
    size = image_size or (None if train.shape[1:] != (DEFAULT_SIZE,) * 2 else DEFAULT_SIZE)
    return train, _decode(test_split, image, label, size, limits[1], seed)


def _open(source: str, revision: str | None) -> Any:
    import datasets

    datasets.disable_progress_bars()
    path = Path(source)
    is_local = path.exists() or source.startswith((".", "/", "~"))
    if is_local:
        _check_folder(path)
    try:
        if is_local and not list(path.rglob("*.parquet")):
            return datasets.load_dataset("imagefolder", data_dir=str(path))
        return datasets.load_dataset(source, revision=revision)
    except Exception as error:  # the library raises many kinds for unknown, unreachable and corrupt sources
        kind = "a readable folder" if is_local else "digits, a folder, an .npz file or a hub id within reach"
        reason = " ".join(str(error).split())[:160]
        raise InputError("data", kind, f"{source}, which could not be loaded: {reason}") from None


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise InputError("data", "an existing folder", f"{path}, which does not exist")
    require(path.is_dir(), "data", "a folder, an .npz file, digits or a hub id", path)
    found = [f for f in path.rglob("*") if f.suffix.lower() in (".parquet", *IMAGE_ENDINGS)]
    if not found:
        raise InputError(
            "data", "a folder of parquet files or of class folders of images", f"{path}, which has none"
        )


def _is_image(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Image)


def _is_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _column(split: Any, option: str, wanted: Any) -> str:
    """The column of the wanted type; among several labels the one with a usual name."""
    found = [name for name, feature in split.features.items() if wanted(feature)]
    if wanted is _is_label:
        usual = [name for name in LABEL_NAMES if name in (found or split.features)]
        found = usual[:1] or found
    if len(found) != 1:
        reject(option, f"given (columns: {', '.join(split.features)})", f"{len(found)} candidates")
    return found[0]


def _decode(
    split: Any, image: str, label: str, image_size: int | None, limit: int | None, seed: int
) -> LabelledImages:
    if limit is not None and limit < len(split):
        require(limit >= 1, "limit", "at least 1", limit)
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:limit]
        split = split.select(chosen.tolist())
    try:
        pictures = [_rgb_or_grey(row[image]) for row in split.select_columns([image])]
    except (OSError, UnidentifiedImageError) as error:
        raise InputError("data", "readable images", str(error)) from None
    channels = 3 if any(picture.mode == "RGB" for picture in pictures) else 1
    sizes = {picture.size for picture in pictures}
    side = image_size or (None if len(sizes) == 1 else DEFAULT_SIZE)
    arrays = [_array(picture, side, channels) for picture in pictures]
    names = split.features[label].names if _is_label(split.features[label]) else None
    return labelled(torch.from_numpy(np.stack(arrays)), np.asarray(split[label]), names)


def _rgb_or_grey(picture: Any) -> Image.Image:
    require(isinstance(picture, Image.Image), "image_column", "a column of images", type(picture).__name__)
    return picture.convert("L" if picture.mode in ("1", "L", "I", "I;16", "F") else "RGB")


def _array(picture: Image.Image, side: int | None, channels: int) -> np.ndarray[Any, Any]:
    picture = picture.convert("RGB" if channels == 3 else "L")
    if side is not None:
        picture = resized_and_cropped(picture, side)
    array = np.asarray(picture)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def resized_and_cropped(picture: Image.Image, side: int) -> Image.Image:
    """Shorter side to ``side`` pixels (bicubic), then the central square."""
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.resize((width, height), Image.Resampling.BICUBIC).crop(
        (left, top, left + side, top + side)
    )
