"""A variational auto-encoder of diffusers as a preprocessor, as it comes: CRoPD's rival "VAE" (Section 4.1, Table 4).

Rombach et al., CVPR 2022. The latent is the posterior's mean, never a draw: a defence that draws at random would
have to be attacked as one. Extra ``[vae]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.runtime.errors import InputError, require
from heirloom.runtime.hub import offline_where_unreachable


@dataclass(frozen=True)
class VaeSettings:
    """``config``: of diffusers' AutoencoderKL, which builds it again without its source."""

    image_size: int = 32
    channels: int = 3
    config: dict[str, Any] = field(default_factory=dict)


class Vae(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> latents (N, L, h, w) -> pixels; grey images as colour ones, sides filled up with
    their last pixels to a multiple of what the encoder divides them by.
    """

    def __init__(self, settings: VaeSettings) -> None:
        super().__init__()
        self.settings = settings
        kind = _diffusers()
        self.model = kind.from_config({k: v for k, v in settings.config.items() if not k.startswith("_")})
        self.factor = 2 ** (len(self.model.config.block_out_channels) - 1)

    def encode(self, x: Tensor) -> Tensor:
        x = x.expand(-1, self.model.config.in_channels, -1, -1) if x.shape[1] == 1 else x
        right, below = (-x.shape[3] % self.factor, -x.shape[2] % self.factor)
        filled = functional.pad(x, (0, right, 0, below), mode="replicate")
        return self.model.encode(2 * filled - 1).latent_dist.mode()

    def decode(self, latent: Tensor) -> Tensor:
        side = self.settings.image_size
        made = (self.model.decode(latent).sample[:, :, :side, :side] + 1) / 2
        return made.mean(1, keepdim=True) if self.settings.channels == 1 else made

    def project(self, latent: Tensor) -> Tensor:
        return latent.flatten(1)


def pretrained_vae(source: str, image_size: int, channels: int) -> Vae:
    """The auto-encoder of a hub id or a local folder, frozen.

    Raises:
        InputError: diffusers absent, no AutoencoderKL there.
    """
    kind = _diffusers()
    if not Path(source).is_dir():
        offline_where_unreachable()
    try:
        found = kind.from_pretrained(source, torch_dtype=torch.float32)
    except Exception as error:  # unreachable, no such folder, another class
        reason = " ".join(str(error).split())[:160]
        raise InputError("vae", "a hub id or folder of an AutoencoderKL", f"{source}: {reason}") from None
    taken, given = found.config.in_channels, found.config.out_channels
    fits = (taken, given) in {(3, 3), (channels, channels)}
    wanted = f"of as many channels as the images ({channels}), or of 3"
    require(fits, "vae", wanted, f"{source}, which takes {taken} and gives {given}")
    made = Vae(VaeSettings(image_size, channels, dict(found.config)))
    made.model.load_state_dict(found.state_dict())
    return made.requires_grad_(False).eval()


def _diffusers() -> Any:
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ImportError as error:
        raise InputError("method", "vae only with heirloom-robust[vae] installed", str(error)) from None
    return AutoencoderKL
