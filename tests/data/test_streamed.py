"""Pictures that stay in their files: the same pixels, digests, splits and errors as a decoded set."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import InputError
from heirloom.data.batches import batches
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import InMemory
from heirloom.data.streamed import Streamed
from heirloom.data.unit_images import UnitImages, digest_of_images
from heirloom.runtime.identity import digest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twelve JPEGs of different sizes."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(12):
            side = 20 + number
            noise = generator.integers(0, 255, (side, side + 4, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number:02d}.jpg")
    return tmp_path


def _both(photos: Path) -> tuple[LabelledImages, LabelledImages]:
    return tuple(load_images(str(photos), image_size=16, stream=wanted).train for wanted in (False, True))  # type: ignore[return-value]


def test_streamed_pixels_are_those_of_the_decoded_set(photos: Path) -> None:
    kept, streamed = _both(photos)
    assert isinstance(kept.pixels, InMemory)
    assert isinstance(streamed.pixels, Streamed)
    assert streamed.shape == kept.shape
    assert torch.equal(kept.stored(), streamed.stored())
    assert kept.facts() == streamed.facts()
    for part, same in zip(kept.split(0.3, seed=2), streamed.split(0.3, seed=2), strict=True):
        assert isinstance(same.pixels, Streamed)  # a view: nothing was decoded to split
        assert part.facts() == same.facts()
    assert torch.equal(kept.limit(3, seed=4).images, streamed.limit(3, seed=4).images)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_planned_order_and_draw_nothing(photos: Path, workers: int) -> None:
    kept, streamed = _both(photos)
    before = torch.random.get_rng_state()
    plan = [torch.tensor(rows) for rows in ([3, 1, 2], [0], [7, 7], [5, 6])]
    for rows, found in zip(plan, batches(streamed.pixels, iter(plan), workers=workers), strict=True):
        assert torch.equal(found, kept.stored()[rows])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_decoded_is_named(photos: Path, workers: int) -> None:
    place = photos / "dog" / "05.jpg"
    whole = place.read_bytes()
    place.write_bytes(whole[:-200])  # the header is whole, the pixels are cut off
    streamed = load_images(str(photos), image_size=16, stream=True)
    both = [streamed.train, streamed.test]
    plans = [torch.arange(len(part)).split(4) for part in both]
    with pytest.raises(InputError, match=r"05\.jpg"):
        [list(batches(p.pixels, plan, workers=workers)) for p, plan in zip(both, plans, strict=True)]


def test_unit_images_stand_for_the_float_tensor(photos: Path) -> None:
    kept, streamed = _both(photos)
    whole, lazy = kept.images, UnitImages(streamed.pixels)
    assert lazy.shape == tuple(whole.shape)
    assert digest_of_images(lazy) == digest(whole) == digest_of_images(whole)
    some = torch.arange(len(whole)) % 3 == 0
    for index in (slice(2, 5), some, torch.tensor([4, 0]), [1]):
        assert torch.equal(lazy[index], whole[index])
    assert torch.equal(torch.cat(list(lazy.split(5))), whole)
    assert torch.equal(lazy.select(torch.tensor([6, 2]))[:], whole[[6, 2]])


@pytest.mark.parametrize("own_test_split", [False, True])
def test_a_set_that_would_fill_the_memory_stays_in_its_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_test_split: bool
) -> None:
    if own_test_split:
        for split in ("train", "test"):
            shutil.copytree(photos, tmp_path / "split" / split, ignore=shutil.ignore_patterns("split"))
        photos = tmp_path / "split"

    def kinds(**options: bool) -> list[type]:
        source = load_images(str(photos), image_size=16, **options)  # type: ignore[arg-type]
        return [type(part.pixels) for part in (source.train, source.test)]

    assert kinds() == [InMemory, InMemory]
    assert kinds(stream=True) == [Streamed, Streamed]
    assert kinds(only_test=True) == [Streamed if own_test_split else InMemory, InMemory]
    monkeypatch.setattr("heirloom.data.hub_images.IN_MEMORY", 24 * 3 * 16 * 16 - 1)
    assert kinds() == [Streamed, Streamed]
    assert kinds(stream=False) == [InMemory, InMemory]


def test_split_folders_are_listed_as_the_library_finds_them(photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "split"
    for split in ("train", "validation"):
        shutil.copytree(photos, whole / split, ignore=shutil.ignore_patterns("split"))
    (whole / "validation" / "dog" / "03.jpg").rename(whole / "validation" / "cat" / "3 of a dog.JPG")
    ours = load_images(str(whole), image_size=16)
    (whole / "README.md").write_text("beside the splits: the library has to find them")
    assert load_images(str(whole), image_size=16).facts() == ours.facts()
    assert [len(ours.train), len(ours.test)] == [24, 24]
    assert ours.test.labels.bincount().tolist() == [13, 11]


def test_a_selection_in_memory_copies_nothing(few: LabelledImages) -> None:
    rest, held = few.split(0.25)
    for part in (rest, held, rest.limit(5)):
        assert isinstance(part.pixels, InMemory)
        assert part.pixels.source.data_ptr() == few.pixels.source.data_ptr()  # type: ignore[attr-defined]
    assert torch.equal(rest.select(torch.tensor([1, 0])).stored(), rest.stored()[[1, 0]])
