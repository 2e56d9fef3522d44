"""Image sources that the ``datasets`` library reads: hub ids, parquet, folders of classes, what it saved itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from heirloom.data.batches import batches
from heirloom.data.labelled import TEST_SHARE, LabelledImages, labelled
from heirloom.data.pictures import read_header
from heirloom.data.pixels import Pixels, pass_size
from heirloom.data.splits import open_splits
from heirloom.data.streamed import Streamed, source_of
from heirloom.runtime.errors import reject, require
from heirloom.runtime.processors import free_memory, give_back

LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category")
TEST_NAMES = ("test", "validation", "valid", "val")
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
    image = image_column or column_of(train_split, "image_column", is_image)
    label = label_column or column_of(train_split, "label_column", _is_label)
    for name, argument in ((image, "image_column"), (label, "label_column")):
        require(name in train_split.features, argument, f"one of {', '.join(train_split.features)}", name)
    candidates = (splits[name] for name in TEST_NAMES if name in splits)
    test_split = next((split for split in candidates if _is_labelled(split, label)), None)
    columns = _Columns(image, label, _class_names([train_split, test_split], label))
    if test_split is None:
        whole = _decode(train_split, columns, image_size, None, seed, stream[1])
        return whole.split(TEST_SHARE, seed=0)
    train = _decode(train_split, columns, image_size, limits[0], seed, stream[0])
    size = image_size or (None if train.shape[1:] != (DEFAULT_SIZE,) * 2 else DEFAULT_SIZE)
    return train, _decode(test_split, columns, size, limits[1], seed, stream[1])


@dataclass(frozen=True)
class _Columns:
    """Which columns hold images and labels, and the classes' names where labels have any."""

    image: str
    label: str
    names: list[str] | None


def _is_labelled(split: Any, label: str) -> bool:
    """Whether the test images have labels: hidden ones are all -1, as ImageNet's on the hub are."""
    return label in split.features and (len(split) == 0 or set(split.unique(label)) != {-1})


def _class_names(splits: list[Any], label: str) -> list[str] | None:
    """As the column tells them; of labels that are texts, these in order."""
    feature = splits[0].features[label]
    if _is_label(feature):
        return list(feature.names)
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        return None
    return sorted({name for split in splits if split is not None for name in split.unique(label)} - {None})


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
    columns: _Columns,
    image_size: int | None,
    limit: int | None,
    seed: int,
    stream: bool | None,
) -> LabelledImages:
    split = some_of(split, limit, seed)
    whole = decoded(split, columns.image, image_size, stream)
    labels = split[columns.label]
    if columns.names is not None and not _is_label(split.features[columns.label]):
        places = {name: place for place, name in enumerate(columns.names)}
        labels = [places.get(name, name) for name in labels]
    return labelled(whole, np.asarray(labels), columns.names)


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
