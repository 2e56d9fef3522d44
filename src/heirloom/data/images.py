"""Labelled images from a hub id, a local folder, an ``.npz`` file or the embedded digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heirloom.data.labelled import TEST_SHARE, ImageSource, LabelledImages, labelled
from heirloom.data.pixels import InMemory
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.kinds import kinds_checked
from heirloom.threat import check_images

NPZ_PAIRS = (  # Keras's names, MedMNIST's
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
)


@kinds_checked()
def load_images(
    source: str | Path,
    *,
    image_size: int | None = None,
    limit: int | None = None,
    limit_test: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    stream: bool | None = None,
    only_test: bool = False,
) -> ImageSource:
    """Load a labelled image source.

    Args:
        source: ``digits`` (1797 grey 8x8 images, embedded in scikit-learn), an ``.npz`` file (``x_train``,
            ``y_train``, ``x_test``, ``y_test``; ``train_images``, ``train_labels`` and so on; or ``images`` and
            ``labels``), a ``.parquet`` file, a local folder of parquet files, of class folders of images
            (``train/`` and ``test/`` above them if there are splits) or of images with ``metadata.csv``, one that
            ``datasets`` saved (``save_to_disk``), or a data set's id on the Hugging Face hub. Labels may be class
            indices or the classes' names. A test split without labels is passed over.
        image_size: side of the square images: shorter side resized (bicubic), then cropped at the centre.
            Default: as stored where all have one size, else 224. Arrays (``digits``, ``.npz``) stay as stored.
        limit, limit_test: at most so many random training and test images, drawn with ``seed`` before
            anything is decoded.
        image_column, label_column: for sources whose columns are not found by their types.
        stream: leave the pictures of folders and hub data sets in their files, to be decoded batch by batch; None:
            where a split would take more than 1 GiB, or an eighth of the free memory. The pixels are the same.
        only_test: the training images are not looked at, so theirs stay in their files.

    Raises:
        InputError: unknown source, empty folder, corrupt file, labels that are not class indices.
    """
    source = str(source)
    limits = {"limit": limit, "limit_test": limit_test, "image_size": image_size}
    for name, value in limits.items():
        require(value is None or value >= 1, name, "at least 1", value)
    require(image_size is None or image_size <= 4096, "image_size", "at most 4096 pixels", image_size)
    if source == "digits" or source.endswith(".npz"):
        for name, column in (("image_column", image_column), ("label_column", label_column)):
            require(column is None, name, f"left out for {source}, which has no columns", column)
    if source == "digits":
        train, test = _digits()
    elif source.endswith(".npz"):
        train, test = _from_npz(Path(source))
    else:
        from heirloom.data.hub_images import load_splits

        train, test = load_splits(
            source,
            image_size,
            (limit, limit_test),
            image_column,
            label_column,
            revision,
            seed,
            (True if only_test else stream, stream),
        )
    if image_size is not None and are_stored(source):
        stored = train.shape[1:]
        require(
            stored == (image_size, image_size),
            "image_size",
            f"{stored[0]} or left out for {source}",
            image_size,
        )
    train, test = train.limit(limit, seed), test.limit(limit_test, seed)
    require(
        train.shape == test.shape, "test images", f"of the training images' shape {train.shape}", test.shape
    )
    return ImageSource(source, train, test)


def are_stored(source: str) -> bool:
    """Whether the images of ``source`` are arrays, which come in the size that they have."""
    return source == "digits" or source.endswith(".npz")


def _digits() -> tuple[LabelledImages, LabelledImages]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    labels = torch.from_numpy(found.target).long()
    whole = LabelledImages(InMemory(images), labels, tuple(map(str, range(10))))
    return whole.split(0.25, seed=0)


def read_npz(path: Path) -> dict[str, Any]:
    """The arrays of an archive by name; :class:`InputError` where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError("data", "an existing file", f"{path}, which does not exist") from None
    except Exception as error:
        raise InputError("data", "a readable .npz file", f"{path}, which is not: {error}") from None


def _from_npz(path: Path) -> tuple[LabelledImages, LabelledImages]:
    arrays = read_npz(path)
    for pairs in NPZ_PAIRS:
        if {name for pair in pairs for name in pair} <= set(arrays):
            train, test = (_from_arrays(arrays[x], arrays[y], path) for x, y in pairs)
            count = max(len(train.classes), len(test.classes))
            classes = tuple(map(str, range(count)))
            return replace(train, classes=classes), replace(test, classes=classes)
    require(
        {"images", "labels"} <= set(arrays),
        f"{path}",
        "an archive of x_train, y_train, x_test, y_test, or of images and labels",
        f"one of {', '.join(sorted(arrays)) or 'nothing'}",
    )
    return _from_arrays(arrays["images"], arrays["labels"], path).split(TEST_SHARE, seed=0)


def _from_arrays(x: Any, y: Any, path: Path) -> LabelledImages:
    column = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y  # (N, 1) as Keras and MedMNIST have it
    return labelled(pixels_of(x, path), column, None, f"labels in {path}")


def pixels_of(x: Any, path: Path) -> torch.Tensor:
    """An array of images, (N, H, W), (N, C, H, W) or (N, H, W, C), as (N, C, H, W), uint8 or float32 in [0, 1]."""
    if x.ndim == 3:  # grey without a channel axis
        x = x[:, None]
    require(x.ndim == 4 and len(x) > 0, f"images in {path}", "of shape (N, C, H, W) or (N, H, W, C)", x.shape)
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    require(x.shape[1] in (1, 3), f"images in {path}", "of 1 or 3 channels", f"shape {x.shape}")
    require(x.dtype == np.uint8 or x.dtype.kind == "f", f"images in {path}", "uint8 or float", str(x.dtype))
    pixels = torch.from_numpy(np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(np.float32)))
    if pixels.dtype != torch.uint8:
        check_images(pixels, f"images in {path}")
    return pixels
