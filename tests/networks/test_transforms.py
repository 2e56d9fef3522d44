"""Filters against values known beforehand, and the gradient that an adaptive attack gets."""

import pytest
import torch

from heirloom import InputError, Threat
from heirloom.attacks.fgsm import fgsm
from heirloom.models.preprocessor import build_preprocessor, rebuild_preprocessor
from heirloom.networks.transforms import TRANSFORMS, TransformSettings, jpeg, median, rounded


def test_fewer_bits_keep_both_ends() -> None:
    x = torch.tensor([0.0, 0.07, 0.08, 0.5, 1.0])
    assert rounded(x, 3).tolist() == pytest.approx([0, 0, 1 / 7, 4 / 7, 1])  # 0.5 * 7 = 3.5: to even
    assert torch.equal(rounded(x, 1), torch.tensor([0.0, 0, 0, 0, 1]))


def test_a_median_removes_a_lone_pixel_and_keeps_an_edge() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2, 2] = 1
    assert median(x).abs().max() == 0
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 2:] = 1
    assert torch.equal(median(edge), edge)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels: int, generator: torch.Generator) -> None:
    smooth = torch.linspace(0.2, 0.8, 16).expand(2, channels, 16, 16)
    rough = torch.rand(2, 1, 16, 16, generator=generator).expand(
        2, channels, 16, 16
    )  # grey: Pillow halves colour
    assert (jpeg(smooth, 95) - smooth).abs().max() < 0.03  # hardly a change where there is little to drop
    assert (jpeg(rough, 10) - rough).abs().mean() > 3 * (jpeg(rough, 95) - rough).abs().mean()
    assert torch.equal(jpeg(rough, 75), jpeg(rough, 75))


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_an_attack_sees_through_a_filter(kind: str, generator: torch.Generator) -> None:
    """On a model whose logits are sums of pixels, the attack through the filter finds the worst corner."""
    filtered = build_preprocessor(kind, (1, 8, 8)).eval()
    again = rebuild_preprocessor(filtered.describe())
    x = 0.3 + 0.4 * torch.rand(4, 1, 8, 8, generator=generator)
    assert torch.equal(filtered(x), again(x))

    class _Sum(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            total = filtered(images).sum((1, 2, 3))
            return torch.stack([total, -total], 1)

    threat = Threat("Linf", 0.2)
    attacked = fgsm(_Sum(), x, torch.zeros(4, dtype=torch.long), threat)
    assert (filtered(attacked).mean((1, 2, 3)) < filtered(x).mean((1, 2, 3)) - 0.08).all()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(InputError, match="bits must be from 1 to 8, got 9"):
        TransformSettings(bits=9)
    with pytest.raises(InputError, match="kind must be one of jpeg, bit-depth, median, got blur"):
        TransformSettings(kind="blur")
