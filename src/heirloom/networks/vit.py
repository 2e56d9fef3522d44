"""Vision transformers of the Transformers library, built small: the names of DeiT for CIFAR-sized images.

Dosovitskiy et al., ICLR 2021; widths of Touvron et al., "Training
data-efficient image transformers", ICML 2021.
"""

from __future__ import annotations

from torch import Tensor, nn

from heirloom.runtime.errors import require


class VisionTransformer(nn.Module):
    """A ``transformers.ViTModel`` without pooler or dropout; features are the class token (N, width).

    Args:
        image_size: side of the square images, a multiple of ``patch_size``.
        width, depth, heads: of the transformer; the hidden layer of its blocks is 4 width.
    """

    def __init__(
        self, image_size: int, patch_size: int, width: int, depth: int, heads: int, channels: int = 3
    ) -> None:
        from transformers import ViTConfig, ViTModel

        super().__init__()
        require(
            image_size % patch_size == 0,
            "image size",
            f"a multiple of the patch size {patch_size}",
            image_size,
        )
        config = ViTConfig(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            image_size=image_size,
            patch_size=patch_size,
            num_channels=channels,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.body = ViTModel(config, add_pooling_layer=False)
        self.feature_size = width

    def forward(self, x: Tensor) -> Tensor:
        return self.body(pixel_values=x).last_hidden_state[:, 0]


def vit_tiny(image_size: int = 32, channels: int = 3) -> VisionTransformer:
    """ViT-Tiny (width 192, 12 blocks, 3 heads): 64 patches whatever the image size (4x4 at 32x32)."""
    require(image_size % 8 == 0, "image size", "a multiple of 8 for vit-tiny", image_size)
    return VisionTransformer(image_size, image_size // 8, 192, 12, 3, channels)
