"""Residual networks: ResNet-18 with a 3x3 or the original 7x7 stem, ResNet-8 and ResNet-10 for small machines.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from heirloom.runtime.choices import Activation
from heirloom.runtime.errors import require

Stem = Literal["3x3", "7x7", "6x6"]
_STEMS = {"3x3": (3, 1, 1), "7x7": (7, 2, 3), "6x6": (6, 2, 2)}  # side, stride, padding
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "silu": functional.silu}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm; a 1x1 convolution with BatchNorm where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.norm2(self.conv2(hidden)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of :class:`BasicBlock`, each after the first halving the resolution, then the mean over space.

    Args:
        widths, blocks: channels and number of blocks of each stage.
        stem: ``3x3`` with stride 1 (usual for 32x32 images), or ``7x7`` with stride 2 and padding 3 (the
            original's, without its max-pooling: Xing et al., AISTATS 2024, D.2, change the stem alone), or
            ``6x6`` with stride 2 and padding 2, which is a 3x3 on the image folded 2x2 into channels.
        classes: None: the output is features (N, ``feature_size``), else logits (N, classes).
        channels: of the images, 1 or 3 say.
        activation: ``relu``, or ``silu``, whose smooth slopes make a better attack in training (Xie et al., "Smooth
            Adversarial Training", 2020, arXiv 2006.14536).
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        *,
        stem: Stem = "3x3",
        classes: int | None = None,
        channels: int = 3,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        require(stem in _STEMS, "stem", f"one of {', '.join(_STEMS)}", stem)
        allowed = f"one of {', '.join(_ACTIVATIONS)}"
        require(activation in _ACTIVATIONS, "activation", allowed, activation)
        self.activation = _ACTIVATIONS[activation]
        side, stride, padding = _STEMS[stem]
        self.stem = nn.Conv2d(channels, widths[0], side, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        layers, last = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(BasicBlock(last, width, 2 if stage > 0 and block == 0 else 1, activation))
                last = width
        self.blocks = nn.Sequential(*layers)
        self.feature_size = last
        self.head = nn.Linear(last, classes) if classes is not None else nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, feature_size)."""
        return self.blocks(self.activation(self.norm(self.stem(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def resnet18(
    *,
    width: int = 64,
    stem: Stem = "3x3",
    classes: int | None = None,
    channels: int = 3,
    activation: Activation = "relu",
) -> ResNet:
    """ResNet-18: 11.17 million parameters with a 3x3 stem, 10 classes and stages of ``width`` 64 to 512."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    return ResNet(widths, (2, 2, 2, 2), stem=stem, classes=classes, channels=channels, activation=activation)


def resnet8(*, width: int = 16, stem: Stem = "3x3", classes: int | None = None, channels: int = 3) -> ResNet:
    """ResNet-8: one block in each of three stages of ``width``, 2 and 4 times ``width`` channels."""
    return ResNet((width, 2 * width, 4 * width), (1, 1, 1), stem=stem, classes=classes, channels=channels)


def resnet10(
    *, width: int = 64, classes: int | None = None, channels: int = 3, activation: Activation = "relu"
) -> ResNet:
    """ResNet-10 at half the resolution: a 6x6 stem of stride 2, then 1, 2 and 1 blocks of ``width``, 2 and 4 times
    ``width`` channels. Wide convolutions on few places keep a CPU busier than narrow ones on many: with width
    32 it trains 2.8 times as fast as a ResNet-20 of a third of its parameters (bf16, one thread, 32 pixels).
    """
    widths = (width, 2 * width, 4 * width)
    return ResNet(widths, (1, 2, 1), stem="6x6", classes=classes, channels=channels, activation=activation)
