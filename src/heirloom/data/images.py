"""Labelled images from a hub id, a local folder, an ``.npz`` file or the embedded digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heirloom.errors import InputError, reject, require
from heirloom.threat import check_images

TEST_SHARE = 0.2  # of the images, where a source has no test split of its own
NPZ_PAIRS = (("x_train", "y_train"), ("x_test", "y_test"))


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels.

    Attributes:
        pixels: (N, C, H, W), uint8 in [0, 255] or float32 in [0, 1]; kept as stored, to save memory.
        labels: (N,) int64 class indices.
        classes: the class names, one for each index.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """All images as float32 (N, C, H, W) in [0, 1]."""
        return to_unit_range(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def select(self, indices: Tensor) -> LabelledImages:
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def limit(self, count: int | None, seed: int = 0) -> LabelledImages:
        """A random subset of at most ``count`` images (all of them where None)."""
        if count is None or count >= len(self):
            return self
        require(count >= 1, "limit", "at least 1", count)
        return self.select(_permutation(len(self), seed)[:count])

    def split(self, fraction: float, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
        """(the rest, a random ``fraction`` of each class): train and validation, say."""
        require(0 < fraction < 1, "fraction", "between 0 and 1", fraction)
        order = _permutation(len(self), seed)
        held = torch.zeros(len(self), dtype=torch.bool)
        for label in self.labels.unique():
            members = order[self.labels[order] == label]
            held[members[: round(fraction * len(members))]] = True
        require(
            bool(held.any()) and not bool(held.all()),
            "fraction",
            f"one that leaves images on both sides of {len(self)}",
            fraction,
        )
        return self.select((~held).nonzero().flatten()), self.select(held.nonzero().flatten())


@dataclass(frozen=True)
class ImageSource:
    """The train and test images of one source; ``name`` is what the user called it."""

    name: str
    train: LabelledImages
    test: LabelledImages


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]; float32 pixels as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def load_images(
    source: str,
    *,
    image_size: int | None = None,
    limit: int | None = None,
    limit_test: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    seed: int = 0,
) -> ImageSource:
    """Load a labelled image source.

    Args:
        source: ``digits`` (1797 grey 8x8 images, embedded in scikit-learn), an ``.npz`` file (``x_train``,
            ``y_train``, ``x_test``, ``y_test``, or ``images`` and ``labels``), a local folder of parquet
            files or of class folders of images (``train/`` and ``test/`` above them if there are splits), or
            a data set's id on the Hugging Face hub.
        image_size: side of the square images: shorter side resized (bicubic), then cropped at the centre.
            Default: as stored where all have one size, else 224.
        limit, limit_test: at most so many random training and test images, drawn with ``seed`` before
            anything is decoded.
        image_column, label_column: for sources whose columns are not found by their types.

    Raises:
        InputError: unknown source, empty folder, corrupt file, labels that are not class indices.
    """
    if source == "digits":
        train, test = _digits()
    elif source.endswith(".npz"):
        train, test = _from_npz(Path(source))
    else:
        from heirloom.data.hub_images import load_splits

        train, test = load_splits(
            source, image_size, (limit, limit_test), image_column, label_column, revision, seed
        )
    train, test = train.limit(limit, seed), test.limit(limit_test, seed)
    require(
        train.shape == test.shape, "test images", f"of the training images' shape {train.shape}", test.shape
    )
    return ImageSource(source, train, test)


def _digits() -> tuple[LabelledImages, LabelledImages]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    labels = torch.from_numpy(found.target).long()
    whole = LabelledImages(images, labels, tuple(map(str, range(10))))
    return whole.split(0.25, seed=0)


def _from_npz(path: Path) -> tuple[LabelledImages, LabelledImages]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"--data must be an existing file, but {path} does not exist.") from None
    except Exception as error:
        raise InputError(
            f"--data must be a readable .npz file, but {path} is not: {' '.join(str(error).split())}."
        ) from None
    if {name for pair in NPZ_PAIRS for name in pair} <= set(arrays):
        train, test = (_from_arrays(arrays[x], arrays[y], path) for x, y in NPZ_PAIRS)
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
    return labelled(pixels, y, None, f"labels in {path}")


def labelled(
    pixels: Tensor, labels: Any, classes: Sequence[str] | None, argument: str = "labels"
) -> LabelledImages:
    """Check labels and build :class:`LabelledImages`; class names default to the indices."""
    array = np.asarray(labels)
    require(
        array.ndim == 1 and len(array) == len(pixels),
        argument,
        f"one for each of {len(pixels)} images",
        array.shape,
    )
    if array.dtype.kind not in "iu":
        reject(argument, "whole numbers", str(array.dtype))
    require(int(array.min()) >= 0, argument, "class indices from 0", int(array.min()))
    if classes is None:
        classes = tuple(map(str, range(int(array.max()) + 1)))
    require(
        int(array.max()) < len(classes),
        argument,
        f"class indices from 0 to {len(classes) - 1}",
        int(array.max()),
    )
    return LabelledImages(pixels, torch.from_numpy(array.astype(np.int64)), tuple(classes))


def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
