"""Batched augmentation: in range, reproducible, each image on its own, each part doing what it says."""

import pytest
import torch

from heirloom.data.augmentation import CROP_AND_FLIP, Augmentation, augment

ONLY = {"crop_scale": None, "flip": 0.0, "jitter_p": 0.0, "grey_p": 0.0}


def _images(generator: torch.Generator, channels: int = 3) -> torch.Tensor:
    return torch.rand(16, channels, 12, 12, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [Augmentation(), CROP_AND_FLIP])
def test_in_range_reproducible_and_without_global_randomness(
    channels: int, settings: Augmentation, generator: torch.Generator
) -> None:
    x, state = _images(generator, channels), torch.random.get_rng_state()
    first, second = (augment(x, settings, torch.Generator().manual_seed(4)) for _ in range(2))
    other = augment(x, settings, torch.Generator().manual_seed(5))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(state, torch.random.get_rng_state())


def test_flip_alone_is_a_mirror(generator: torch.Generator) -> None:
    x = _images(generator)
    flipped = augment(x, Augmentation(**{**ONLY, "flip": 1.0}), generator)
    assert torch.allclose(flipped, x.flip(3), atol=1e-5)
    half = augment(x, Augmentation(**{**ONLY, "flip": 0.5}), generator)
    mirrored = [
        (torch.allclose(h, i, atol=1e-5), torch.allclose(h, i.flip(2), atol=1e-5))
        for h, i in zip(half, x, strict=True)
    ]
    assert all(a or b for a, b in mirrored)
    assert any(a for a, _ in mirrored)
    assert any(b for _, b in mirrored)


def test_padded_crop_shifts_by_whole_pixels(generator: torch.Generator) -> None:
    x = _images(generator)
    shifted = augment(x, Augmentation(**{**ONLY, "pad": 2}), generator)
    padded = torch.nn.functional.pad(x, (2,) * 4, mode="reflect")
    for image, source in zip(shifted, padded, strict=True):
        windows = [source[:, i : i + 12, j : j + 12] for i in range(5) for j in range(5)]
        assert any(torch.allclose(image, window, atol=1e-5) for window in windows)


def test_grey_alone_makes_all_channels_equal(generator: torch.Generator) -> None:
    grey = augment(_images(generator), Augmentation(**{**ONLY, "grey_p": 1.0}), generator)
    assert torch.allclose(grey[:, 0], grey[:, 1])


def test_jitter_probability_is_met(generator: torch.Generator) -> None:
    x = torch.rand(1000, 3, 2, 2, generator=generator)
    changed = augment(x, Augmentation(**{**ONLY, "jitter_p": 0.8}), generator)
    share = (changed != x).flatten(1).any(1).double().mean()
    assert float(share) == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / 1000) ** 0.5)
