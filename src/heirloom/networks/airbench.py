"""A convolutional network for 32-pixel images that learns CIFAR-10 in few epochs.

Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv 2404.00498, sections 3.1 to 3.3: whitening
2x2 filters that stay as they are, partial identity initialisation, pooling before the normalisation, GELU. Left
out: frozen BatchNorm scales and the 64-fold rate of their shifts, Lookahead, alternating flips, multi-crop evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 2  # of the whitening filters
FLATTENING = 5e-4  # added to the eigenvalues, so that directions without variance are not blown up


class PooledBlock(nn.Module):
    """Convolution, 2x2 max-pooling, BatchNorm, GELU; convolution, BatchNorm, GELU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        for convolution in (self.conv1, self.conv2):  # the first outputs hand the inputs on
            nn.init.dirac_(convolution.weight[: convolution.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.norm1(functional.max_pool2d(self.conv1(x), 2)))
        return functional.gelu(self.norm2(self.conv2(x)))


class Airbench(nn.Module):
    """Whitening filters, three blocks of ``width``, 4 and 4 times ``width`` channels, the maximum over space.

    Input: images (N, channels, H, W) of at least 9 pixels a side; output: features (N, ``feature_size``).
    """

    def __init__(self, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        filters = 2 * channels * SIDE**2  # every direction and its opposite
        self.stem = nn.Conv2d(channels, filters, SIDE, bias=True)
        self.stem.weight.requires_grad_(False)
        nn.init.zeros_(self.stem.bias)  # type: ignore[arg-type]
        self.blocks = nn.Sequential(
            PooledBlock(filters, width), PooledBlock(width, 4 * width), PooledBlock(4 * width, 4 * width)
        )
        self.feature_size = 4 * width

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(functional.gelu(self.stem(x))).amax((2, 3))

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Set the first filters so that their outputs on ``images`` (N, channels, H, W), as the network will see them,
        have unit variance and no correlation (section 3.2)."""
        patches = functional.unfold(images, SIDE).transpose(1, 2).flatten(0, 1).double()
        values, vectors = torch.linalg.eigh(torch.cov(patches.T))
        directions = (vectors / (values + FLATTENING).sqrt()).T.flip(0)
        both = torch.cat([directions, -directions]).view_as(self.stem.weight)
        self.stem.weight.copy_(both.to(self.stem.weight))
