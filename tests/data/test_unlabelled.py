"""Pictures without labels come in the shape of the labelled ones, from anything that holds pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import InputError
from heirloom.data.images import load_images
from heirloom.data.unlabelled import load_unlabelled

COLOUR, GREY = (3, 8, 8), (1, 8, 8)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Six pictures beside each other, grey and colour, of different sizes."""
    for number in range(6):
        mode, size = ("L", (9, 12)) if number % 2 else ("RGB", (8 + number, 8))
        Image.new(mode, size, 30 * number if mode == "L" else (30 * number, 0, 9)).save(
            tmp_path / f"{number}.png"
        )
    return tmp_path


@pytest.mark.parametrize("shape", [COLOUR, GREY])
@pytest.mark.parametrize("stream", [False, True])
def test_a_flat_folder_of_any_pictures(flat: Path, shape: tuple[int, int, int], stream: bool) -> None:
    found = load_unlabelled(str(flat), shape, stream=stream)
    assert (found.name, len(found.images), found.images.shape) == (str(flat), 6, shape)
    assert int(found.images.labels.abs().sum()) == 0
    few = load_unlabelled(str(flat), shape, limit=4, seed=3, stream=stream).images
    assert len(few) == 4
    kept = {tuple(image.flatten().tolist()) for image in found.images.images}
    assert {tuple(image.flatten().tolist()) for image in few.images} <= kept


def test_of_labelled_sources_the_training_images_alone(flat: Path, tmp_path: Path) -> None:
    for split, value in (("train", 200), ("test", 3)):
        (tmp_path / "split" / split / "cat").mkdir(parents=True)
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / "split" / split / "cat" / "0.png")
    found = load_unlabelled(str(tmp_path / "split"), COLOUR).images
    assert found.stored()[:, 0].unique().tolist() == [200]
    digits = load_unlabelled("digits", GREY, limit=9).images
    train = load_images("digits").train.images
    assert all((image == train).flatten(1).all(1).any() for image in digits.images)


@pytest.mark.parametrize("name", ["images", "x_train"])
def test_an_archive_needs_no_labels(name: str, tmp_path: Path) -> None:
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    np.savez(tmp_path / "a.npz", **{name: pixels})
    found = load_unlabelled(str(tmp_path / "a.npz"), COLOUR).images
    assert torch.equal(found.stored(), torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_what_is_wrong_is_told_of_unlabelled(flat: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", labels=np.arange(3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.png").write_bytes(b"no picture")
    for source in (
        "digits",
        "./no/such",
        str(tmp_path / "labels.npz"),
        str(tmp_path / "empty"),
        str(tmp_path),
    ):
        with pytest.raises(InputError, match=r"^(unlabelled|.*x\.png)"):
            load_unlabelled(source, COLOUR, stream=False)
    (tmp_path / "x.png").unlink()
    with pytest.raises(InputError, match="limit_unlabelled must be at least 1"):
        load_unlabelled(str(flat), COLOUR, limit=0)
