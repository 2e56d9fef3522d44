"""The image networks against the sizes that their papers and reference implementations state."""

import pytest
import torch
from torch import nn

from heirloom import InputError
from heirloom.networks.preact_resnet import PreActBlock, preact_resnet18
from heirloom.networks.vit import VisionTransformer, vit_tiny
from heirloom.networks.wide_resnet import wide_resnet


def count(module: nn.Module, classes: int = 10) -> int:
    """Parameters with the linear classifier that the published counts include."""
    return sum(p.numel() for p in module.parameters()) + (int(module.feature_size) + 1) * classes


def test_published_parameter_counts() -> None:
    assert count(preact_resnet18()) == 11_172_170  # robust_overfitting's PreActResNet18
    assert count(wide_resnet(28, 10)) == 36_479_194  # WRN-28-10, 36.5 million in the paper's Table 1
    assert count(wide_resnet(16, 8)) == 10_961_370  # WRN-16-8, 11.0 million


@pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1), (64, 3)])
def test_convolutional_features_whatever_the_size(side: int, channels: int) -> None:
    network = wide_resnet(10, 1, channels).eval()
    assert network(torch.rand(2, channels, side, side)).shape == (2, 64)


def test_pre_activation_block_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    block = PreActBlock(4, 6, 2).eval()
    x = torch.randn(2, 4, 8, 8)
    scale = (1 + 1e-5) ** -0.5  # a fresh BatchNorm in eval mode
    first = (x * scale).relu()
    hidden = nn.functional.conv2d(first, block.conv1.weight, stride=2, padding=1)
    hidden = nn.functional.conv2d((hidden * scale).relu(), block.conv2.weight, padding=1)
    assert block.shortcut is not None
    expected = hidden + nn.functional.conv2d(first, block.shortcut.weight, stride=2)
    assert torch.allclose(block(x), expected, atol=1e-6)


def test_vision_transformer_is_deterministic_and_of_deit_tiny_size() -> None:
    network = VisionTransformer(16, 4, width=24, depth=2, heads=3, channels=1)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(network(x), network(x))  # in train mode, too: nothing in it is random
    assert network(x).shape == (2, 24)
    # 12 blocks of 12 w^2 + 13 w, the last norm, the class token, 65 positions, a 4x4x3 embedding
    w = 192
    assert count(vit_tiny(), 0) == 12 * (12 * w * w + 13 * w) + 2 * w + w + 65 * w + (48 * w + w)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="depth must be 6 n"):
        wide_resnet(18)
    with pytest.raises(InputError, match="image size must be a multiple of 8"):
        vit_tiny(28)
