"""The ViT-MAE variant of CRoPD (arXiv 2504.10850, Appendix A), with masks that never change.

Half of the patches are masked. Both complementary halves are encoded, each from its own visible patches,
and decoded; a patch's reconstruction is the average of the two. The masks are drawn once, from a seed that is
part of the architecture, so the network is a deterministic function of the image. Masks drawn anew in each
pass would make it a randomised defence, whose figures under ordinary attacks are void (docs/method.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require

MASK_SEED = 0


@dataclass(frozen=True)
class MaskedAutoencoderSettings:
    """Depths, widths and the patch grid; Appendix A's values for 32-pixel images are the defaults."""

    image_size: int = 32
    channels: int = 3
    patch_size: int = 2
    width: int = 192
    encoder_layers: int = 8
    decoder_layers: int = 2
    heads: int = 3
    pooling_factor: int = 8
    projector_hidden: int = 2048
    projector_out: int = 128

    def __post_init__(self) -> None:
        require(
            self.image_size % self.patch_size == 0 and self.patches % 2 == 0,
            "image_size",
            f"a multiple of the patch size {self.patch_size} with an even number of patches",
            self.image_size,
        )
        require(self.width % self.heads == 0, "width", f"a multiple of heads ({self.heads})", self.width)

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


class MaskedAutoencoder(nn.Module):
    """``encode``: (N, C, H, W) -> latent tokens (2 N, patches / 2, width), the first N rows of one half, the
    others of its complement; ``decode``: back to pixels; ``project``: to (N, projector_out).
    """

    visible: Tensor
    restore: Tensor

    def __init__(self, settings: MaskedAutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        s, half = settings, settings.patches // 2
        order = torch.randperm(s.patches, generator=torch.Generator().manual_seed(MASK_SEED))
        halves = torch.stack([order[:half].sort().values, order[half:].sort().values])
        self.register_buffer("visible", halves, persistent=False)
        # where each patch of the grid stands in (visible tokens, then mask tokens), for either half
        self.register_buffer("restore", torch.cat([halves, halves.flip(0)], 1).argsort(1), persistent=False)
        self.embed = nn.Conv2d(s.channels, s.width, s.patch_size, s.patch_size)
        self.encoder_position = nn.Parameter(torch.empty(s.patches, s.width))
        self.encoder = _transformer(s.width, s.heads, s.encoder_layers)
        self.decoder_position = nn.Parameter(torch.empty(s.patches, s.width))
        self.mask_token = nn.Parameter(torch.empty(s.width))
        self.decoder = _transformer(s.width, s.heads, s.decoder_layers)
        self.to_pixels = nn.Linear(s.width, s.channels * s.patch_size**2)
        self.pool = nn.AvgPool1d(s.pooling_factor)
        pooled = 2 * half // s.pooling_factor * s.width
        self.projector = nn.Sequential(
            nn.Linear(pooled, s.projector_hidden), nn.ReLU(), nn.Linear(s.projector_hidden, s.projector_out)
        )
        for parameter in (self.encoder_position, self.decoder_position, self.mask_token):
            nn.init.normal_(parameter, std=0.02)

    def encode(self, x: Tensor) -> Tensor:
        tokens = self.embed(x * 2 - 1).flatten(2).transpose(1, 2) + self.encoder_position
        return self.encoder(torch.cat([tokens[:, self.visible[0]], tokens[:, self.visible[1]]]))

    def decode(self, latent: Tensor) -> Tensor:
        n, half = len(latent) // 2, latent.shape[1]
        masked = self.mask_token.expand(len(latent), half, -1)
        tokens = torch.cat([latent, masked], 1)
        restored = torch.cat([tokens[:n, self.restore[0]], tokens[n:, self.restore[1]]])
        patches = self.to_pixels(self.decoder(restored + self.decoder_position))
        return self._unpatch((patches[:n] + patches[n:]) / 2)

    def project(self, latent: Tensor) -> Tensor:
        n = len(latent) // 2
        tokens = torch.cat([latent[:n], latent[n:]], 1)
        return self.projector(self.pool(tokens.transpose(1, 2)).flatten(1))

    def _unpatch(self, patches: Tensor) -> Tensor:
        s, side = self.settings, self.settings.image_size // self.settings.patch_size
        grid = patches.view(-1, side, side, s.channels, s.patch_size, s.patch_size)
        pixels = grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, s.channels, s.image_size, s.image_size)
        return (pixels + 1) / 2


def _transformer(width: int, heads: int, layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
