"""A frozen foundation model as one differentiable function: [0, 1] pixels -> features.

Resizing and normalisation happen inside, so that an attack sees them. The function is deterministic:
Transformers' ``ViTMAEModel`` masks and shuffles its patches at random even in eval mode, so we hand it the
identity order and mask nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.networks.backbones import is_saved_backbone, load_backbone
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.files import write_json

Pooling = Literal["auto", "cls", "mean", "pooler"]
NORMALISATIONS: dict[str, tuple[list[float], list[float]]] = {
    "none": ([0.0], [1.0]),
    "half": ([0.5], [0.5]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


@dataclass(frozen=True)
class EncoderSettings:
    """Which foundation model, and how its features are read.

    Attributes:
        source: a hub id, a local Transformers folder, an ``encoder`` folder of ``heirloom pretrain``, or
            ``package.module:factory``, a callable without arguments that returns an ``nn.Module`` from [0, 1]
            pixels to features.
        revision: of a hub id: branch, tag or commit.
        pooling: ``cls`` (first token), ``mean`` (over patch tokens or positions), ``pooler`` (the model's
            own), ``auto`` (``mean`` for ViT-MAE, else the model's own where it has one, else ``cls``).
        normalisation: ``auto`` (the checkpoint's image processor), ``none``, ``half`` or ``imagenet``.
        image_size: side that images are resized to (bilinear); None: the checkpoint's.
    """

    source: str
    revision: str | None = None
    pooling: Pooling = "auto"
    normalisation: str = "auto"
    image_size: int | None = None

    def __post_init__(self) -> None:
        require(
            self.pooling in ("auto", "cls", "mean", "pooler"),
            "pooling",
            "auto, cls, mean or pooler",
            self.pooling,
        )
        require(
            self.normalisation in ("auto", *NORMALISATIONS),
            "normalisation",
            f"auto, {', '.join(NORMALISATIONS)}",
            self.normalisation,
        )

    @property
    def is_factory(self) -> bool:
        return ":" in self.source and not Path(self.source).exists()

    @property
    def is_local(self) -> bool:
        return Path(self.source).is_dir()


class FrozenEncoder(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> features (N, D); always in eval mode, parameters without gradients.

    Grey images are repeated where the model takes colour.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        settings: EncoderSettings,
        *,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.settings = backbone.eval().requires_grad_(False), settings
        self.size, self.channels = size, channels
        self.register_buffer("mean", torch.tensor(mean or [0.0]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std or [1.0]).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Frozen means frozen: BatchNorm statistics and dropout never wake."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.channels == 3 and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if self.size is not None and self.size != tuple(x.shape[2:]):
            shrinks = self.size[0] < x.shape[2] or self.size[1] < x.shape[3]
            x = functional.interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=shrinks)
        return self._pooled(self._outputs((x - self.mean) / self.std))

    def fingerprint(self) -> str:
        """A digest of the weights: a defence loaded with other weights than it was trained for is refused."""
        digest = hashlib.sha256()
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Save a Transformers model, with the normalisation and size used here, so that it loads again."""
        backbone: Any = self.backbone
        backbone.save_pretrained(folder)
        processor = {
            "do_resize": self.size is not None,
            "size": {"height": self.size[0], "width": self.size[1]} if self.size else None,
            "do_normalize": True,
            "image_mean": self.mean.flatten().tolist(),
            "image_std": self.std.flatten().tolist(),
        }
        write_json(folder / "preprocessor_config.json", processor)

    def _outputs(self, pixels: Tensor) -> Any:
        if _model_type(self.backbone) == "vit_mae":
            embeddings: Any = self.backbone.embeddings
            patches = int(embeddings.patch_embeddings.num_patches)
            order = torch.linspace(0, 1, patches, device=pixels.device).expand(len(pixels), -1)
            return self.backbone(pixels, noise=order)
        return self.backbone(pixels)

    def _pooled(self, outputs: Any) -> Tensor:
        if isinstance(outputs, Tensor):  # a module of the user's own
            return outputs.flatten(2).mean(2) if outputs.ndim == 4 else outputs.flatten(1)
        hidden: Tensor = outputs.last_hidden_state
        own: Tensor | None = getattr(outputs, "pooler_output", None)
        pooling = self.settings.pooling
        if pooling == "auto":
            is_mae = _model_type(self.backbone) == "vit_mae"
            pooling = "mean" if is_mae else ("pooler" if own is not None else "cls")
        if pooling == "pooler":
            if own is None:
                reject("pooling", "cls or mean for a model without a pooler", "pooler")
            return own.flatten(1)
        if hidden.ndim == 4:  # convolutional: (N, D, H, W)
            require(pooling == "mean", "pooling", "mean or pooler for a convolutional model", pooling)
            return hidden.mean((2, 3))
        return hidden[:, 0] if pooling == "cls" else hidden[:, _prefix_tokens(self.backbone) :].mean(1)


def load_encoder(settings: EncoderSettings, *, trust_remote_code: bool = False) -> FrozenEncoder:
    """Load the foundation model that ``settings`` names, frozen.

    Args:
        trust_remote_code: let a hub repository's own code run. Off unless asked.

    Raises:
        InputError: an unknown or unreadable model, a factory that is not there or returns no module, a
            checkpoint without normalisation constants while ``normalisation`` is ``auto``.
    """
    if settings.is_local and is_saved_backbone(settings.source):
        own = load_backbone(settings.source)
        side, channels = own.settings.image_size, own.settings.channels
        return FrozenEncoder(own, settings, size=(side, side), channels=channels)
    if settings.is_factory:
        return FrozenEncoder(
            module_from_factory(settings.source), settings, **_factory_preprocessing(settings)
        )
    config, backbone = _from_transformers(settings, trust_remote_code)
    mean, std, size = _preprocessing(settings, trust_remote_code)
    config = getattr(config, "vision_config", config)
    size = settings.image_size or size or getattr(config, "image_size", None)
    pair = (size, size) if isinstance(size, int) else tuple(size) if size is not None else None
    return FrozenEncoder(
        backbone, settings, mean=mean, std=std, size=pair, channels=getattr(config, "num_channels", None)
    )


def module_from_factory(source: str) -> nn.Module:
    """The module that ``package.module:factory`` returns; the current folder counts as importable."""
    import sys

    package, _, name = source.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(import_module(package), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError("model", "an importable package.module:factory", f"{source}: {error}") from None
    require(callable(factory), "model", "a package.module:factory that can be called", source)
    module = factory()
    require(
        isinstance(module, nn.Module), "model", "a factory that returns an nn.Module", type(module).__name__
    )
    return module


def _factory_preprocessing(settings: EncoderSettings) -> dict[str, Any]:
    name = "none" if settings.normalisation == "auto" else settings.normalisation
    mean, std = NORMALISATIONS[name]
    side = settings.image_size
    return {
        "mean": mean,
        "std": std,
        "size": (side, side) if side else None,
        "channels": len(mean) if len(mean) > 1 else None,
    }


def _from_transformers(settings: EncoderSettings, trust_remote_code: bool) -> tuple[Any, nn.Module]:
    from transformers import AutoConfig, AutoModel, CLIPVisionModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = settings.source
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if settings.revision is not None:
        options["revision"] = settings.revision
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if config.model_type == "vit_mae":
            config.mask_ratio = 0.0
        loader = CLIPVisionModel if config.model_type == "clip" else AutoModel
        chosen = config.vision_config if config.model_type == "clip" else config
        return config, loader.from_pretrained(
            source, config=chosen, dtype=torch.float32, use_safetensors=True, **options
        )
    except Exception as error:  # unknown, unreachable, corrupt: the library raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            "model",
            "a hub id within reach, a local Transformers folder or package.module:factory",
            f"{source}, which could not be loaded: {reason}",
        ) from None


def _preprocessing(
    settings: EncoderSettings, trust_remote_code: bool
) -> tuple[list[float], list[float], int | tuple[int, int] | None]:
    """Mean, standard deviation and size, read from the checkpoint's image processor configuration."""
    from transformers.image_processing_base import ImageProcessingMixin

    options = {"revision": settings.revision} if settings.revision is not None else {}
    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(settings.source, **options)
    except (OSError, ValueError):
        found = {}
    if settings.normalisation != "auto":
        mean, std = NORMALISATIONS[settings.normalisation]
    elif not found:
        reject("normalisation", "given for a checkpoint without preprocessor_config.json", "auto")
    elif found.get("do_normalize", True):
        mean, std = found["image_mean"], found["image_std"]
    else:
        mean, std = NORMALISATIONS["none"]
    return mean, std, _side(found)


def _side(found: dict[str, Any]) -> int | tuple[int, int] | None:
    crop = found.get("crop_size") if found.get("do_center_crop") else None
    size = crop or (found.get("size") if found.get("do_resize", True) else None)
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size["height"], size["width"])
    return size


def _model_type(backbone: nn.Module) -> str:
    return str(getattr(getattr(backbone, "config", None), "model_type", ""))


def _prefix_tokens(backbone: nn.Module) -> int:
    """Tokens before the patches: the class token, and DINOv2's registers."""
    return 1 + int(getattr(backbone.config, "num_register_tokens", 0) or 0)
