"""Wide residual networks: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016."""

from __future__ import annotations

from heirloom.networks.preact_resnet import PreActResNet
from heirloom.runtime.errors import require


def wide_resnet(depth: int = 34, factor: int = 10, channels: int = 3) -> PreActResNet:
    """WRN-depth-factor: three stages of (depth - 4) / 6 pre-activation blocks, ``factor`` times as wide as
    the original (16, 32, 64). WRN-34-10, the usual one of adversarial training, has 46.2 million parameters.
    """
    require(depth >= 10 and (depth - 4) % 6 == 0, "depth", "6 n + 4: 10, 16, 22, 28, 34, ...", depth)
    count = (depth - 4) // 6
    return PreActResNet(16, (16 * factor, 32 * factor, 64 * factor), (count,) * 3, channels)
