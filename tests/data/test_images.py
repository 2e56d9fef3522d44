"""Images from every kind of source, and what is refused."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import InputError
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.data.pictures import read_pictures
from tests.conftest import SHARED


def _picture(value: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value, 255 - value, 7))


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(10):
            _picture(20 * label + number).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_digits_are_split_once_and_for_all() -> None:
    data = load_images("digits")
    assert (len(data.train), len(data.test), data.train.shape) == (1347, 450, (1, 8, 8))
    assert torch.equal(data.test.labels, load_images("digits", seed=9).test.labels)
    counts = data.test.labels.bincount()
    assert counts.min() >= 43
    assert counts.max() <= 46  # a quarter of each class


def test_class_folders(class_folders: Path) -> None:
    data = load_images(str(class_folders))
    assert data.train.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.train.pixels.dtype == torch.uint8
    for pixel, label in zip(data.train.pixels[:, 0, 0, 0], data.train.labels, strict=True):
        assert (pixel >= 20) == bool(label)  # pixels as they were stored, with their own label


def test_parquet_folder_with_splits(tmp_path: Path) -> None:
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    )
    for split, count in (("train", 9), ("test", 6)):
        rows = {"img": [_picture(i, mode="L") for i in range(count)], "label": [i % 3 for i in range(count)]}
        datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / f"{split}-00000.parquet"))
    data = load_images(str(tmp_path), limit=5, limit_test=4)
    assert (len(data.train), len(data.test), data.train.shape) == (5, 4, (1, 6, 6))
    assert (data.train.pixels[:, 0, 0, 0].long() % 3 == data.train.labels).all()


def test_pictures_of_many_sizes_are_resized_and_cropped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, size in enumerate([(30, 20), (20, 40), (50, 50), (25, 25), (33, 21)]):
            _picture(9, size).save(tmp_path / name / f"{number}.png")
    data = load_images(str(tmp_path), image_size=16)
    assert data.train.shape == (3, 16, 16)
    assert data.train.pixels[0, :, 8, 8].tolist() == [9, 246, 7]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
def test_npz(tmp_path: Path, layout: str) -> None:
    images = np.arange(40 * 4 * 4 * 3, dtype=np.uint8).reshape(40, 3, 4, 4)
    stored = {"NCHW": images, "NHWC": images.transpose(0, 2, 3, 1), "NHW": images[:, 0]}[layout]
    path = tmp_path / "data.npz"
    np.savez(
        path, x_train=stored[:30], y_train=np.arange(30) % 3, x_test=stored[30:], y_test=np.arange(10) % 3
    )
    data = load_images(str(path))
    expected = images if layout != "NHW" else images[:, :1]
    assert np.array_equal(data.test.pixels.numpy(), expected[30:])
    assert data.train.images.max() <= 1


def test_one_npz_array_is_split_by_class(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.random.default_rng(0).random((50, 1, 4, 4)), labels=np.arange(50) % 5)
    data = load_images(str(path))
    assert data.test.labels.bincount().tolist() == [2] * 5


def test_split_and_limit(few: LabelledImages) -> None:
    rest, held = few.split(0.25, seed=3)
    assert len(rest) + len(held) == 64
    assert len(few.limit(10)) == 10
    assert torch.equal(few.limit(10, seed=1).labels, few.limit(10, seed=1).labels)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": np.zeros((2, 1, 4, 4))}, "an archive of x_train"),
        ({"images": np.full((8, 1, 4, 4), 7.0), "labels": np.zeros(8, int)}, r"pixels in \[0, 1\]"),
        ({"images": np.full((8, 1, 4, 4), np.nan), "labels": np.zeros(8, int)}, "NaN"),
        ({"images": np.zeros((8, 1, 4, 4)), "labels": np.zeros(7, int)}, "one for each of 8 images"),
        ({"images": np.zeros((8, 1, 4, 4)), "labels": np.zeros(8)}, "whole numbers"),
        ({"images": np.zeros((8, 1, 4, 4)), "labels": np.full(8, -1)}, "class indices from 0"),
        ({"images": np.zeros((8, 2, 4, 4)), "labels": np.zeros(8, int)}, "1 or 3 channels"),
        ({"images": np.zeros((8, 4)), "labels": np.zeros(8, int)}, r"of shape \(N, C, H, W\)"),
        ({"images": np.zeros((8, 1, 4, 4), np.int64), "labels": np.zeros(8, int)}, "uint8 or float"),
        ({"images": np.array([{}] * 8, object), "labels": np.zeros(8, int)}, "readable .npz"),
    ],
)
def test_wrong_archives_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=said):
        load_images(str(path))


def test_wrong_sources_are_refused(tmp_path: Path, class_folders: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has none"):
        load_images(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="does not exist"):
        load_images("./nowhere")
    (tmp_path / "broken.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"readable .npz file"):
        load_images(str(tmp_path / "broken.npz"))
    (class_folders / "cat" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="readable images") as error:
        load_images(str(class_folders))
    assert "\n" not in str(error.value)


def test_read_pictures(tmp_path: Path) -> None:
    _picture(100, (12, 8)).save(tmp_path / "a.png")
    assert read_pictures([tmp_path / "a.png"], (3, 8, 8)).shape == (1, 3, 8, 8)
    grey = read_pictures([tmp_path / "a.png"], (1, 4, 4))
    assert 0 < grey.mean() < 1
    with pytest.raises(InputError, match="does not exist"):
        read_pictures([tmp_path / "b.png"], (3, 8, 8))
    (tmp_path / "c.png").write_text("no")
    with pytest.raises(InputError, match="readable image files"):
        read_pictures([tmp_path / "c.png"], (3, 8, 8))


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is absent: the folders above stand in for it")
@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("mnist", (1, 28, 28), 10), ("cifar100-5k", (3, 32, 32), 100), ("imagenette64-2k", (3, 64, 64), 10)],
)
def test_real_data_sets(name: str, shape: tuple[int, int, int], classes: int) -> None:
    data = load_images(str(SHARED / "data" / name), limit=50, limit_test=20)
    assert (len(data.train), len(data.test), data.train.shape) == (50, 20, shape)
    assert len(data.train.classes) == classes
