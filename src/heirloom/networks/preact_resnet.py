"""Pre-activation ResNet-18 for small images, with a 3x3 stem and BatchNorm before the pooling.

He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016; the form that Rice, Wong and
Kolter, "Overfitting in adversarially robust deep learning", ICML 2020, train (11.17 million parameters).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; the shortcut, where it needs a convolution, starts after the first
    ReLU and has no BatchNorm of its own.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        hidden = self.conv2(functional.relu(self.norm2(self.conv1(activated))))
        return hidden + shortcut


class PreActResNet(nn.Module):
    """Stages of :class:`PreActBlock`, each after the first halving the resolution.

    Args:
        stem_width: channels after the 3x3 stem. widths, blocks: channels and number of blocks of each stage.
        channels: of the images, in any size that the stages can halve.

    Output: features (N, widths[-1]), averaged over space after a last BatchNorm and ReLU.
    """

    def __init__(
        self, stem_width: int, widths: Sequence[int], blocks: Sequence[int], channels: int = 3
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, stem_width, 3, 1, 1, bias=False)
        stages, last = [], stem_width
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stages.append(PreActBlock(last, width, 2 if stage > 0 and block == 0 else 1))
                last = width
        self.blocks = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(last)
        self.feature_size = last

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3))


def preact_resnet18(channels: int = 3) -> PreActResNet:
    return PreActResNet(64, (64, 128, 256, 512), (2, 2, 2, 2), channels)
