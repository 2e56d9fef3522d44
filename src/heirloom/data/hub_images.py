"""Image sources that the ``datasets`` library reads: hub ids, folders of parquet, folders of classes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heirloom.data.batches import batches
from heirloom.data.labelled import TEST_SHARE, LabelledImages, labelled
from heirloom.data.pictures import IMAGE_ENDINGS, read_header
from heirloom.data.pixels import Pixels, pass_size
from heirloom.data.streamed import Streamed, source_of
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.hub import offline_where_unreachable
from heirloom.runtime.processors import free_memory, give_back

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")
SPLIT_FOLDERS = {"train", "test", "validation"}
DEFAULT_SIZE = 224
IN_MEMORY = 1 << 30  # bytes of pixels that are decoded once and kept: 7,000 images of 224 pixels
Splits = tuple[LabelledImages, LabelledImages]


def load_splits(
    source: str,
    image_size: int | None,
    limits: tuple[int | None, int | None],
    image_column: str | None,
    label_column: str | None,
    revision: str | None,
    seed: int,
    stream: tuple[bool | None, bool | None] = (None, None),
) -> Splits:
    """Train and test images of ``source`` (see :func:`heirloom.data.images.load_images`)."""
    splits = open_splits(source, revision)
    train_split = splits.get("train") or next(iter(splits.values()))
    test_split = next((splits[n] for n in ("test", "validation", "valid", "val") if n in splits), None)
    image = image_column or column_of(train_split, "image_column", is_image)
    label = label_column or column_of(train_split, "label_column", _is_label)
    for name, argument in ((image, "image_column"), (label, "label_column")):
        require(name in train_split.features, argument, f"one of {', '.join(train_split.features)}", name)
    if test_split is None:
        whole = _decode(train_split, image, label, image_size, None, seed, stream[1])
        return whole.split(TEST_SHARE, seed=0)
    train = _decode(train_split, image, label, image_size, limits[0], seed, stream[0])
    size = image_size or (None if train.shape[1:] != (DEFAULT_SIZE,) * 2 else DEFAULT_SIZE)
    return train, _decode(test_split, image, label, size, limits[1], seed, stream[1])


def open_splits(source: str, revision: str | None) -> Any:
    """The splits of a hub id or a folder by name, undecoded; :class:`InputError` where there are none."""
    import datasets

    datasets.disable_progress_bars()
    path = Path(source)
    is_local = path.exists() or source.startswith((".", "/", "~"))
    if is_local:
        _check_folder(path)
    try:
        if is_local and not any(path.rglob("*.parquet")):
            return datasets.load_dataset("imagefolder", data_dir=str(path), data_files=_split_folders(path))
        if not is_local:
            offline_where_unreachable()
        return datasets.load_dataset(source, revision=revision)
    except Exception as error:  # the library raises many kinds for unknown, unreachable and corrupt sources
        kind = "a readable folder" if is_local else "digits, a folder, an .npz file or a hub id within reach"
        reason = " ".join(str(error).split())[:160]
        raise InputError("data", kind, f"{source}, which could not be loaded: {reason}") from None


def _split_folders(path: Path) -> dict[str, list[str]] | None:
    """The files of each split where the folder holds train/, test/ or validation/ and nothing else. None: the library
    finds the splits, for which it looks at each file 45 times.
    """
    names = {place.name for place in path.iterdir()}
    return {name: [f"{name}/**"] for name in sorted(names)} if names <= SPLIT_FOLDERS else None


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise InputError("data", "an existing folder", f"{path}, which does not exist")
    require(path.is_dir(), "data", "a folder, an .npz file, digits or a hub id", f"{path}")
    if not any(f.suffix.lower() in (".parquet", *IMAGE_ENDINGS) for f in path.rglob("*")):
        raise InputError(
            "data", "a folder of parquet files or of class folders of images", f"{path}, which has none"
        )


def is_image(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Image)


def _is_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def column_of(split: Any, option: str, wanted: Any) -> str:
    """The column of the wanted type; among several labels the one with a usual name."""
    found = [name for name, feature in split.features.items() if wanted(feature)]
    if wanted is _is_label:
        usual = [name for name in LABEL_NAMES if name in (found or split.features)]
        found = usual[:1] or found
    if wanted is _is_label and all(map(is_image, split.features.values())):
        reject(
            "data",
            "images with labels: a folder for each of two classes or more, or a column",
            "images alone",
        )
    if len(found) != 1:
        reject(option, f"given (columns: {', '.join(split.features)})", f"{len(found)} candidates")
    return found[0]


def _decode(
    split: Any,
    image: str,
    label: str,
    image_size: int | None,
    limit: int | None,
    seed: int,
    stream: bool | None,
) -> LabelledImages:
    split = some_of(split, limit, seed)
    whole = decoded(split, image, image_size, stream)
    labels = np.asarray(split[label])
    names = split.features[label].names if _is_label(split.features[label]) else None
    return labelled(whole, labels, names)


def some_of(split: Any, limit: int | None, seed: int) -> Any:
    """At most ``limit`` rows, drawn with ``seed``; at least one, or :class:`InputError`."""
    if limit is not None and limit < len(split):
        require(limit >= 1, "limit", "at least 1", limit)
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:limit]
        split = split.select(chosen.tolist())
    require(len(split) > 0, "data", "at least one image", "none")
    return split


def decoded(
    split: Any, image: str, image_size: int | None, stream: bool | None, channels: int | None = None
) -> Pixels | torch.Tensor:
    """The pictures in column ``image``, in memory or left in their files; ``channels`` None: as their headers say."""
    import datasets

    require(is_image(split.features[image]), "image_column", "a column of images", image)
    files = split.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    pixels = _sized(files, image, image_size)
    if channels is not None:
        pixels = replace(pixels, channels=channels)
    made = pixels if _streams(pixels, stream) else _kept(pixels)
    give_back()  # what listing the files took
    return made


def _sized(files: Any, image: str, image_size: int | None) -> Streamed:
    """The pictures behind ``files`` at one size; only their headers are read."""
    sizes, channels = set(), 1
    for number, row in enumerate(files):
        header = read_header(*source_of(row[image], number))
        sizes.add(header.size)
        channels = channels if header.is_grey else 3
    side = image_size or (None if len(sizes) == 1 else DEFAULT_SIZE)
    size = (side, side) if side is not None else sizes.pop()
    return Streamed(files, image, torch.arange(len(files)), channels, side, size)


def _streams(pixels: Streamed, wanted: bool | None) -> bool:
    """Whether the pictures stay in their files: where, decoded, they would fill the memory. No figure depends on it."""
    if wanted is not None:
        return wanted
    room = free_memory()
    return math.prod(pixels.shape) > min(IN_MEMORY, IN_MEMORY if room is None else room // 8)


def _kept(pixels: Pixels) -> torch.Tensor:
    """All pictures, decoded once into one tensor."""
    kept, done = torch.empty(pixels.shape, dtype=torch.uint8), 0
    for part in batches(pixels, torch.arange(len(pixels)).split(pass_size(pixels.shape)), workers=0):
        kept[done : done + len(part)] = part
        done += len(part)
    return kept
