"""Pixels as the checkpoint wants them: every field read or refused, Pillow's filters differentiably."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import InputError
from heirloom.models.image_processor import ImageProcessing, interpret
from heirloom.models.resampling import RESAMPLING, Resampling, resample

COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}


@pytest.mark.parametrize("how", RESAMPLING)
@pytest.mark.parametrize("size", [(9, 13), (40, 31), (24, 24)])
def test_resampling_is_pillows(how: Any, size: tuple[int, int], generator: torch.Generator) -> None:
    x = torch.rand(1, 1, 24, 32, generator=generator, dtype=torch.float64)
    picture = Image.fromarray(x[0, 0].float().numpy(), mode="F").resize(size[::-1], RESAMPLING.index(how))
    expected = np.clip(np.asarray(picture), 0, 1)
    x.requires_grad_()
    ours = resample(x, size, how)
    assert np.allclose(ours[0, 0].detach().numpy(), expected, atol=1e-5)
    ours.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["do_gamma", "do_grayscale", "do_thumbnail", "keep_aspect_ratio"])
def test_unknown_fields_are_refused_by_name(name: str) -> None:
    assert interpret({**COLOURS, name: False}) == interpret(COLOURS)
    with pytest.raises(InputError, match=name):
        interpret({**COLOURS, name: True})


@pytest.mark.parametrize("name", ["image_mean", "image_std"])
def test_constants_that_are_absent_are_not_guessed(name: str) -> None:
    with pytest.raises(InputError, match=name):
        interpret({k: v for k, v in COLOURS.items() if k != name})


def test_colour_steps_are_one_affine_map(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 4, 4, generator=generator)
    mean, std = (torch.tensor(COLOURS[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    plain = (x - mean) / std
    cases: list[tuple[dict[str, Any], torch.Tensor]] = [
        ({}, plain),
        ({"do_normalize": False}, x),
        ({"do_rescale": False, "do_normalize": False}, 255 * x),
        ({"do_flip_channel_order": True}, (x.flip(1) - mean) / std),
        ({"include_top": True}, plain / std),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, (2 * x - 1 - mean) / std),
    ]
    for change, expected in cases:
        assert torch.allclose(interpret({**COLOURS, **change})(x), expected, atol=1e-4), change


@pytest.mark.parametrize(
    ("fields", "shape", "target"),
    [
        ({"size": 20}, (40, 30), (20, 20)),
        ({"size": {"height": 8, "width": 6}}, (40, 30), (8, 6)),
        ({"size": {"shortest_edge": 15}}, (40, 30), (20, 15)),
        ({"size": {"longest_edge": 20}}, (40, 30), (20, 15)),
        ({"size": {"shortest_edge": 30}, "do_center_crop": True, "crop_size": 24}, (30, 30), (24, 24)),
        ({"size": {"shortest_edge": 30}, "crop_pct": 0.875}, (40, 40), (30, 30)),
        ({"do_resize": False, "size": 20}, (40, 30), (40, 30)),
        ({"size_divisor": 16}, (40, 30), (32, 16)),
        ({"max_num_patches": 50, "patch_size": 4}, (40, 40), (28, 28)),
    ],
)
def test_sizes_mean_what_the_processor_means(
    fields: dict[str, Any], shape: tuple[int, int], target: tuple[int, int]
) -> None:
    assert interpret({**COLOURS, **fields}).target(*shape) == target


def test_fields_are_read_back_as_they_were() -> None:
    processing = ImageProcessing(
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (20, 20), "longest", "box", True, (20, 20), 2
    )
    assert interpret(processing.fields(), official=True) == processing


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", RESAMPLING)
def test_types_of_16_bits_are_resampled_too(
    how: Resampling, kind: torch.dtype, generator: torch.Generator
) -> None:
    """What a preprocessor paints under autocast goes through them, on a CPU as well."""
    for side in (5, 13):
        x = torch.rand(2, 3, 8, 8, generator=generator).to(kind).requires_grad_()
        made = resample(x, (side, side), how)
        assert made.dtype == kind
        assert torch.allclose(made.float(), resample(x.float(), (side, side), how), atol=0.01)
        made.sum().backward()
