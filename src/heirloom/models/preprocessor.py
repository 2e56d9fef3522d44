"""What stands in front of the foundation model, an auto-encoder or nothing; the whole that is attacked."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn

from heirloom.networks.masked_autoencoder import MaskedAutoencoder, MaskedAutoencoderSettings
from heirloom.networks.small_autoencoders import (
    ConvAutoencoder,
    ConvAutoencoderSettings,
    MlpAutoencoder,
    MlpAutoencoderSettings,
)
from heirloom.networks.student_painter import StudentPainter, StudentPainterSettings
from heirloom.networks.transforms import TRANSFORMS, Transform, TransformSettings
from heirloom.networks.vae import Vae, VaeSettings, pretrained_vae
from heirloom.runtime.choices import Architecture
from heirloom.runtime.errors import InputError, reject, require

ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
IMAGE_SIDES = {"vit-small32-patch4": 32, "vit-small32": 32, "vit-large224": 224}  # of those made for one size
NetworkSettings = (
    MlpAutoencoderSettings
    | ConvAutoencoderSettings
    | MaskedAutoencoderSettings
    | StudentPainterSettings
    | TransformSettings
    | VaeSettings
)


class AutoencoderNetwork(Protocol):
    """Every auto-encoder's three functions (see ``heirloom.networks``)."""

    settings: Any

    def encode(self, x: Tensor) -> Tensor: ...
    def decode(self, latent: Tensor) -> Tensor: ...
    def project(self, latent: Tensor) -> Tensor: ...


class Preprocessor(nn.Module):
    """An auto-encoder as a preprocessor: [0, 1] pixels (N, C, H, W) -> [0, 1] pixels of the same shape."""

    def __init__(self, architecture: Architecture, network: nn.Module) -> None:
        super().__init__()
        self.architecture, self.network = architecture, network

    def forward(self, x: Tensor) -> Tensor:
        return self.reconstruct(x).clamp(0, 1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction before it is clamped: what training compares with the image."""
        network: Any = self.network
        return network.decode(network.encode(x))

    def embed(self, x: Tensor) -> Tensor:
        """(N, projector_out), on which the contrastive loss acts."""
        network: Any = self.network
        return network.project(network.encode(x))

    def describe(self) -> dict[str, Any]:
        """What :func:`build_preprocessor` needs to build it again, as JSON."""
        network: Any = self.network
        return {"architecture": self.architecture, **asdict(network.settings)}


def build_preprocessor(
    architecture: str, image_shape: tuple[int, int, int], *, seed: int = 0, **changes: Any
) -> Preprocessor:
    """A fresh auto-encoder.

    Args:
        architecture: ``mlp`` and ``conv`` for small images and small machines; ``vit-small32`` and
            ``vit-large224``, the paper's (Appendix A), for images of 32 and 224 pixels;
            ``vit-small32-patch4``, the former with patches of 4 pixels for the paper's 2, a sixth of its
            cost; ``student-painter``, which the objective ``distil`` trains.
        image_shape: (C, H, W) with H = W.
        seed: of the initial weights; torch's global random state is left as it was.
        changes: fields of the architecture's settings that differ from the preset.
    """
    require(architecture in ARCHITECTURES, "architecture", f"one of {', '.join(ARCHITECTURES)}", architecture)
    channels, height, width = image_shape
    require(height == width, "image_shape", "square for an auto-encoder", f"{height}x{width}")
    wanted = IMAGE_SIDES.get(architecture, height)
    require(
        "image_size" in changes or height == wanted,
        "architecture",
        f"one that fits images of {height} pixels (mlp or conv; an image_size of {wanted} resizes)",
        architecture,
    )
    settings = _settings(architecture, {"image_size": height, "channels": channels, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Preprocessor(architecture, _network(settings))  # type: ignore[arg-type]


def vae_preprocessor(source: str, image_shape: tuple[int, int, int]) -> Preprocessor:
    """The AutoencoderKL of a hub id or folder, trained already, for images of ``image_shape`` (C, H, W), H = W."""
    channels, height, width = image_shape
    require(height == width, "image_shape", "square for an auto-encoder", f"{height}x{width}")
    return Preprocessor("vae", pretrained_vae(source, height, channels))


def rebuild_preprocessor(description: dict[str, Any]) -> Preprocessor:
    """The network that :meth:`Preprocessor.describe` described, weights not loaded yet."""
    changes = dict(description)
    architecture = changes.pop("architecture", None)
    try:
        side, channels = changes["image_size"], changes["channels"]
        return build_preprocessor(architecture, (channels, side, side), **changes)
    except (KeyError, TypeError) as error:
        raise InputError(
            "config.json", "the description of a preprocessor", f"one whose {error} is wrong or missing"
        ) from None


def _settings(architecture: str, values: dict[str, Any]) -> NetworkSettings:
    presets: dict[str, tuple[type[NetworkSettings], dict[str, Any]]] = {
        "mlp": (MlpAutoencoderSettings, _mlp_widths(values)),
        "conv": (ConvAutoencoderSettings, {}),
        "vit-small32-patch4": (MaskedAutoencoderSettings, {"patch_size": 4}),
        "vit-small32": (MaskedAutoencoderSettings, {}),
        "vit-large224": (MaskedAutoencoderSettings, {"patch_size": 14, "width": 768}),
        "student-painter": (StudentPainterSettings, {}),
        "vae": (VaeSettings, {}),
        **{kind: (TransformSettings, {"kind": kind}) for kind in TRANSFORMS},
    }
    kind, preset = presets[architecture]
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        reject("architecture settings", f"among {', '.join(sorted(known))}", ", ".join(unknown))
    return kind(**{**preset, **values})


def _mlp_widths(values: dict[str, Any]) -> dict[str, int]:
    """Wide enough for the image: 256 units for 8x8 digits, 1024 from 28x28 on."""
    pixels = values["channels"] * values["image_size"] ** 2
    return {"hidden": 256, "latent": 64} if pixels <= 256 else {"hidden": 1024, "latent": 128}


def _network(settings: NetworkSettings) -> nn.Module:
    if isinstance(settings, MlpAutoencoderSettings):
        return MlpAutoencoder(settings)
    if isinstance(settings, ConvAutoencoderSettings):
        return ConvAutoencoder(settings)
    if isinstance(settings, StudentPainterSettings):
        return StudentPainter(settings)
    if isinstance(settings, VaeSettings):
        return Vae(settings)
    if isinstance(settings, TransformSettings):
        return Transform(settings)
    return MaskedAutoencoder(settings)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
