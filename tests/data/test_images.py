"""Images from every kind of source, and what is refused."""

from itertools import product
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import InputError
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.data.pictures import picture_files, read_pictures
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


def test_arrays_are_not_resized_in_silence() -> None:
    assert load_images("digits", image_size=8).train.shape == (1, 8, 8)
    with pytest.raises(InputError, match="image_size must be 8 or left out for digits, got 16"):
        load_images("digits", image_size=16)


def test_class_folders_are_read_as_labels(class_folders: Path) -> None:
    data = load_images(str(class_folders))
    assert data.train.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.train.pixels.dtype == torch.uint8
    for pixel, label in zip(data.train.stored()[:, 0, 0, 0], data.train.labels, strict=True):
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
    assert (data.train.stored()[:, 0, 0, 0].long() % 3 == data.train.labels).all()


def _rows(labels: list, label: object) -> datasets.Dataset:
    pictures = [_picture(10 * number) for number in range(len(labels))]
    features = datasets.Features({"image": datasets.Image(), "label": label})
    return datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)


NAMED, TEXT = datasets.ClassLabel(names=["a", "b", "c"]), datasets.Value("string")


@pytest.mark.parametrize("kind", ["saved", "saved splits", "file", "folder"])
@pytest.mark.parametrize("texts", [False, True])
def test_what_datasets_saves_is_read(kind: str, texts: bool, tmp_path: Path) -> None:
    """One set however it lies on the disk, and whether its labels are indices or names."""
    labels = [number % 3 for number in range(15)]
    given = ["cab"[label] for label in labels] if texts else [(2, 0, 1)[label] for label in labels]
    rows = _rows(given, TEXT if texts else NAMED)
    place = tmp_path / ("x.parquet" if kind == "file" else "x")
    if kind == "saved":
        rows.save_to_disk(str(place))
    elif kind == "saved splits":
        datasets.DatasetDict(train=rows.select(range(12)), test=rows.select(range(12, 15))).save_to_disk(
            str(place)
        )
    else:
        place = place if kind == "file" else place / "train.parquet"
        place.parent.mkdir(exist_ok=True)
        rows.to_parquet(str(place))
    data = load_images(place if kind != "folder" else place.parent)
    assert data.train.classes == ("a", "b", "c")
    assert (len(data.train), len(data.test)) == (12, 3)
    for part in (data.train, data.test):
        for pixel, label in zip(part.stored()[:, 0, 0, 0], part.labels, strict=True):
            assert int(label) == (2, 0, 1)[int(pixel) // 10 % 3]


def test_a_test_split_whose_labels_are_hidden_is_passed_over(tmp_path: Path) -> None:
    """ImageNet's on the hub: test labels are all -1, validation has them."""
    rows, hidden = _rows([0, 1, 2] * 4, NAMED), _rows([-1] * 4, NAMED)
    both = {"train": rows, "test": hidden}
    datasets.DatasetDict({**both, "validation": rows.select(range(6))}).save_to_disk(str(tmp_path / "three"))
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "two"))
    assert len(load_images(tmp_path / "three").test) == 6
    alone = load_images(tmp_path / "two")
    assert (len(alone.train), len(alone.test)) == (9, 3)


def test_pictures_of_many_sizes_are_resized_and_cropped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, size in enumerate([(30, 20), (20, 40), (50, 50), (25, 25), (33, 21)]):
            _picture(9, size).save(tmp_path / name / f"{number}.png")
    data = load_images(str(tmp_path), image_size=16)
    assert data.train.shape == (3, 16, 16)
    assert data.train.stored()[0, :, 8, 8].tolist() == [9, 246, 7]


@pytest.mark.parametrize(
    "names", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"]
)
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
def test_an_npz_file_is_read_with_its_labels(tmp_path: Path, layout: str, column: bool, names: str) -> None:
    images = np.arange(40 * 4 * 4 * 3, dtype=np.uint8).reshape(40, 3, 4, 4)
    stored = {"NCHW": images, "NHWC": images.transpose(0, 2, 3, 1), "NHW": images[:, 0]}[layout]
    path = tmp_path / "data.npz"
    labels = np.concatenate([np.arange(30), np.arange(10)]) % 3
    labels = labels[:, None] if column else labels
    arrays = (stored[:30], labels[:30], stored[30:], labels[30:])
    np.savez(path, **dict(zip(names.split(), arrays, strict=True)))
    data = load_images(str(path))
    assert torch.equal(data.test.labels, torch.arange(10) % 3)
    expected = images if layout != "NHW" else images[:, :1]
    assert np.array_equal(data.test.stored().numpy(), expected[30:])
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


def test_pictures_are_read_to_the_models_shape(tmp_path: Path) -> None:
    _picture(100, (12, 8)).save(tmp_path / "a.png")
    assert read_pictures([tmp_path / "a.png"], (3, 8, 8)).shape == (1, 3, 8, 8)
    grey = read_pictures([tmp_path / "a.png"], (1, 4, 4))
    assert 0 < grey.mean() < 1
    with pytest.raises(InputError, match="does not exist"):
        read_pictures([tmp_path / "b.png"], (3, 8, 8))
    (tmp_path / "c.png").write_text("no")
    with pytest.raises(InputError, match="readable images"):
        read_pictures([tmp_path / "c.png"], (3, 8, 8))


def _phone_photo(path: Path) -> None:
    """A wide picture, red at the left, that its EXIF note turns upright: a quarter to the right."""
    picture = Image.new("RGB", (40, 20), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif, quality=95)


def _pictures(folder: Path) -> None:
    """Every way that a picture comes, in two class folders of one picture each kind."""
    folder.mkdir(parents=True)
    _phone_photo(folder / "phone.jpg")
    ramp = np.linspace(0, 65535, 400).reshape(20, 20)
    Image.fromarray(ramp.astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray((ramp / 65535).astype(np.float32), mode="F").save(folder / "float.tif")
    Image.new("RGBA", (20, 20), (200, 100, 50, 128)).save(folder / "alpha.png")
    Image.new("CMYK", (20, 20), (10, 200, 30, 0)).save(folder / "print.jpg")
    Image.new("LA", (20, 20), (90, 40)).save(folder / "grey-alpha.png")
    _picture(200, (20, 20)).convert("P").save(folder / "palette.gif")
    frames = [_picture(250, (20, 20)), _picture(0, (20, 20))]
    frames[0].save(folder / "moves.webp", save_all=True, append_images=frames[1:], lossless=True)
    _picture(60, (300, 200)).save(folder / "large.jpg")


def test_training_and_predict_read_every_picture_alike(tmp_path: Path) -> None:
    for split, name in product(("train", "test"), "ab"):
        _pictures(tmp_path / split / name)
    data = load_images(str(tmp_path), image_size=16)
    files = picture_files([tmp_path / "test"])
    assert len(files) == 18
    pixels = read_pictures(files, (3, 16, 16))
    assert torch.equal(data.test.images, pixels)
    found = {file.name: image for file, image in zip(files, pixels, strict=True)}
    turned = found["phone.jpg"]
    assert turned[0, 0].mean() > 0.9  # red is on top once the picture is upright
    assert turned[2, -1].mean() > 0.9
    assert 0.4 < found["deep.png"].mean() < 0.6  # sixteen bits are no white
    assert torch.allclose(found["deep.png"], found["float.tif"], atol=1 / 255)
    assert found["moves.webp"][0].mean() > 0.9  # the first frame
    assert torch.allclose(found["alpha.png"][:, 0, 0] * 255, torch.tensor([200.0, 100.0, 50.0]))


def test_pictures_as_objects(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    several = [tmp_path / "a.png", Image.fromarray(array), array, array.transpose(2, 0, 1), (array / 255.0)]
    pixels = read_pictures(several, (3, 8, 8))
    assert all(torch.equal(pixels[0], other) for other in pixels[1:])
    for wrong in (
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8), np.int64),
        np.full((8, 8), 7.0),
        np.zeros(3),
    ):
        with pytest.raises(InputError, match="number 0"):
            read_pictures([wrong], (3, 8, 8))


@pytest.mark.parametrize("kind", ["one class", "flat"])
def test_pictures_without_labels_are_refused_in_words_of_folders(kind: str, class_folders: Path) -> None:
    for place in (class_folders / "dog").iterdir():
        place.rename(class_folders / ("cat" if kind == "one class" else "") / f"dog-{place.name}")
    for place in (class_folders / "cat").iterdir() if kind == "flat" else ():
        place.rename(class_folders / place.name)
    with pytest.raises(InputError, match="data must be images with labels: a folder for each of two classes"):
        load_images(str(class_folders))


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_errors_name_the_file(damage: str, class_folders: Path) -> None:
    place = class_folders / "dog" / "3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(place)
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no picture")
    for read in (lambda: load_images(str(class_folders)), lambda: read_pictures([place], (3, 8, 8))):
        with pytest.raises(InputError, match=r"readable images.*3\.png") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is absent: the folders above stand in for it")
@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("mnist", (1, 28, 28), 10), ("cifar100-5k", (3, 32, 32), 100), ("imagenette64-2k", (3, 64, 64), 10)],
)
def test_real_data_sets(name: str, shape: tuple[int, int, int], classes: int) -> None:
    data = load_images(str(SHARED / "data" / name), limit=50, limit_test=20)
    assert (len(data.train), len(data.test), data.train.shape) == (50, 20, shape)
    assert len(data.train.classes) == classes
