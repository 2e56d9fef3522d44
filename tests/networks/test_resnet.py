"""ResNets against the published sizes and against Transformers' own ResNet with the same weights."""

import pytest
import torch

from heirloom import InputError
from heirloom.networks.resnet import BasicBlock, resnet8, resnet10, resnet18


def test_published_parameter_counts() -> None:
    assert sum(p.numel() for p in resnet18(classes=10).parameters()) == 11_173_962
    # the original, without its stem and 1000 classes' head, plus ours: 11 689 512 - 513 000 + 5 130
    assert sum(p.numel() for p in resnet18(classes=10, stem="7x7").parameters()) == 11_181_642
    assert sum(p.numel() for p in resnet8(classes=10).parameters()) == 78_042


@pytest.mark.parametrize(("stem", "side"), [("3x3", 8), ("7x7", 4), ("6x6", 4)])
def test_resolutions_and_features(stem: str, side: int) -> None:
    network = resnet8(stem=stem, channels=1, classes=4).eval()  # type: ignore[arg-type]
    x = torch.rand(2, 1, 32, 32)
    assert network.blocks(network.stem(x)).shape == (2, 64, side, side)
    assert network.features(x).shape == (2, 64)
    assert network(x).shape == (2, 4)
    assert resnet8(channels=1).eval()(x).shape == (2, 64)


def test_block_equals_the_one_of_transformers() -> None:
    from transformers.models.resnet.modeling_resnet import ResNetBasicLayer

    torch.manual_seed(0)
    ours, theirs = BasicBlock(3, 5, 2).eval(), ResNetBasicLayer(3, 5, 2).eval()
    for mine, other in zip(
        (ours.conv1, ours.norm1, ours.conv2, ours.norm2, ours.shortcut[0], ours.shortcut[1]),  # type: ignore[index]
        (
            theirs.layer[0].convolution,
            theirs.layer[0].normalization,
            theirs.layer[1].convolution,
            theirs.layer[1].normalization,
            theirs.shortcut.convolution,
            theirs.shortcut.normalization,
        ),
        strict=True,
    ):
        mine.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_unknown_stem_is_refused() -> None:
    with pytest.raises(InputError, match="stem must be one of 3x3, 7x7, 6x6, got 5x5"):
        resnet18(stem="5x5")  # type: ignore[arg-type]


def test_the_6x6_stem_is_a_3x3_on_the_folded_image() -> None:
    torch.manual_seed(0)
    network, x = resnet10(width=4).eval(), torch.rand(2, 3, 8, 8)
    weight = network.stem.weight  # (4, 3, 6, 6) -> (4, 12, 3, 3): each 2x2 of it is four channels of the fold
    folded = torch.nn.functional.pixel_unshuffle(weight, 2)
    expected = torch.nn.functional.conv2d(torch.nn.functional.pixel_unshuffle(x, 2), folded, padding=1)
    assert torch.allclose(network.stem(x), expected, atol=1e-5)
    assert network(x).shape == (2, 16)
