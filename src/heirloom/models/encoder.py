"""A frozen foundation model as one differentiable function: [0, 1] pixels -> features.

Resizing and normalisation happen inside, so that an attack sees them. The function is deterministic, and how it
reads its weights (pooling, normalisation, size) is part of its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.models.factory import module_from_factory
from heirloom.models.image_processor import NORMALISATIONS, ImageProcessing
from heirloom.models.own_encoder import load_own
from heirloom.models.pooling import POOLINGS, Reading
from heirloom.models.sharded import in_step, shard
from heirloom.networks.backbones import is_saved_backbone
from heirloom.runtime.choices import Normalisation, Pooling
from heirloom.runtime.errors import reject, require
from heirloom.runtime.files import write_json
from heirloom.runtime.kinds import check_kinds, kinds_checked

VOLATILE = {  # names, labels and versions: nothing that a feature depends on
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "model_type",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
}
TENSOR = Reading("tensor")


@dataclass(frozen=True)
class EncoderSettings:
    """Which foundation model, and how its features are read.

    Attributes:
        source: a hub id, a local Transformers folder, an ``encoder`` folder of ``heirloom pretrain``, or
            ``package.module:factory``, a callable without arguments that returns an ``nn.Module`` from [0, 1]
            pixels to features.
        revision: of a hub id: branch, tag or commit.
        pooling: ``cls`` (class token), ``mean`` (over patch tokens or positions), ``pooler`` (the model's
            own), ``classifier`` (what the linear layer of the model's own classifier reads), ``logits`` (what that
            classifier says), ``image-text`` (the embedding that a CLIP-like
            model compares with texts, of length 1), ``auto`` (:mod:`heirloom.models.pooling`).
        normalisation: ``auto`` (the checkpoint's image processor), ``none``, ``half`` or ``imagenet``.
        image_size: side that images are resized to; None: the checkpoint's.
        adapter: a folder of peft (LoRA), merged into the frozen weights; extra ``[lora]``.
        vision_weights: a file of open_clip's visual weights (robust CLIPs: FARE, TeCoA), put into the vision tower of
            the CLIP that ``source`` names; the text side stays.
    """

    source: str
    revision: str | None = None
    pooling: Pooling = "auto"
    normalisation: Normalisation = "auto"
    image_size: int | None = None
    adapter: str | None = None
    vision_weights: str | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        require(self.pooling in POOLINGS, "pooling", " or ".join(POOLINGS), self.pooling)
        names = ("auto", *NORMALISATIONS)
        require(self.normalisation in names, "normalisation", ", ".join(names), self.normalisation)
        side = self.image_size
        require(side is None or 1 <= side <= 4096, "image_size", "from 1 to 4096 pixels", side)

    @property
    def is_factory(self) -> bool:
        return ":" in self.source and not Path(self.source).exists()

    @property
    def is_local(self) -> bool:
        return Path(self.source).is_dir()

    @property
    def is_copied(self) -> bool:
        """Whether a saved defence holds the weights: no hub id names them as they are used."""
        return self.is_local or self.adapter is not None or self.vision_weights is not None


class FrozenEncoder(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> features (N, D); always in eval mode, parameters without gradients.

    Grey images are repeated where the model takes colour.

    Args:
        processing: what happens to pixels before the model. reading: how features are read from its outputs.
        channels: that the model takes; None: whatever comes.
        missing: names of weights that the checkpoint lacks; none is ever read.

    Attributes:
        trusts_remote_code: whether the user did when it was loaded, and so does who loads it again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        settings: EncoderSettings,
        *,
        processing: ImageProcessing | None = None,
        reading: Reading = TENSOR,
        channels: int | None = None,
        missing: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.backbone, self.settings = backbone.eval().requires_grad_(False), settings
        self.processing, self.reading = processing or ImageProcessing(), reading
        self.channels, self.missing = channels, missing
        self.trusts_remote_code = False
        self.known_fingerprint: str | None = None  # of weights that are spread over processes
        self.register_buffer("mean", torch.tensor(self.processing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.processing.std).view(1, -1, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Frozen means frozen: BatchNorm statistics and dropout never wake."""
        return super().train(False)

    def shard(self, device: torch.device) -> None:
        """Spread the weights over all processes (:mod:`heirloom.models.sharded`); the function stays the same."""
        known, self.mean, self.std = self.fingerprint(), self.mean.to(device), self.std.to(device)
        shard(self.backbone, device)
        self.known_fingerprint = known

    def _apply(self, fn: Any, recurse: bool = True) -> FrozenEncoder:
        """What is spread over processes stays where it is."""
        return self if self.is_sharded else super()._apply(fn, recurse)

    @property
    def is_sharded(self) -> bool:
        return self.known_fingerprint is not None

    def forward(self, x: Tensor) -> Tensor:
        return in_step(self._features, x) if self.is_sharded else self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        if self.channels == 3 and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        pixels = self.processing.padded((self.processing.resized(x) - self.mean) / self.std)
        if hasattr(self.backbone, "config"):
            from heirloom.models.transformers.features import run_model

            features = self.reading(run_model(self.backbone, pixels, self.reading.kind))
        else:  # a module of the user's own, or of ours
            features = self._of_own_module(pixels)
        return nn.functional.normalize(features) if self.reading.kind == "image-text" else features

    def _of_own_module(self, pixels: Tensor) -> Tensor:
        """Features of a module that may compute in another type than float32."""
        types = (p.dtype for p in self.backbone.parameters() if p.is_floating_point())
        features = self.reading(self.backbone(pixels.to(next(types, pixels.dtype))))
        return features.float() if features.is_floating_point() else features

    def extra_repr(self) -> str:
        """How the weights are read, so that two readings of one model print differently."""
        return json.dumps(self.described(), sort_keys=True, default=str)

    def fingerprint(self) -> str:
        """A digest of the weights and of how they are read: another foundation, or another reading, is refused."""
        if self.known_fingerprint is not None:  # one process may ask alone
            return self.known_fingerprint
        digest = hashlib.sha256()
        for name, value in sorted(self.backbone.state_dict().items()):
            if name not in self.missing:
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        digest.update(json.dumps(self.described(), sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def described(self) -> dict[str, Any]:
        """How the weights are read, as JSON: what differs from the architecture's defaults, pixels, pooling."""
        config: Any = getattr(self.backbone, "config", None)
        differing = config.to_diff_dict() if hasattr(config, "to_diff_dict") else {}
        declared = {f.name for f in fields(config)} if is_dataclass(config) else set(differing)
        return {
            "processing": asdict(self.processing),
            "reading": asdict(self.reading),
            "channels": self.channels,
            "config": {k: v for k, v in differing.items() if k in declared and k not in VOLATILE},
        }

    def save(self, folder: Path) -> None:
        """Save a local model, with the pixels' processing used here, so that it loads again as it is."""
        if self.is_sharded:  # one process saves: from where all have it
            load_encoder(self.settings, trust_remote_code=self.trusts_remote_code).save(folder)
            return
        backbone: Any = self.backbone
        if not hasattr(backbone, "config"):
            backbone.save_pretrained(folder)
            return
        from heirloom.models.transformers.checkpoint import save_checkpoint
        from heirloom.models.transformers.processing import OURS

        save_checkpoint(backbone, self.missing, folder)
        write_json(folder / "preprocessor_config.json", {**self.processing.fields(), OURS: True})


@kinds_checked()
def load_encoder(settings: EncoderSettings | str | Path, *, trust_remote_code: bool = False) -> FrozenEncoder:
    """Load the foundation model that ``settings`` names, frozen.

    Args:
        settings: or their ``source`` alone, where the rest stays as it is.
        trust_remote_code: let a hub repository's own code run. Off unless asked.

    Raises:
        InputError: an unknown or unreadable model, a factory that is not there or returns no module, a
            checkpoint without normalisation constants while ``normalisation`` is ``auto``, or without weights
            that its features need.
    """
    if not isinstance(settings, EncoderSettings):
        settings = EncoderSettings(str(settings))
    if settings.revision is not None and (settings.is_factory or Path(settings.source).exists()):
        reject("revision", "left out unless model is a hub id", settings.revision)
    is_transformers = not settings.is_factory and not (
        settings.is_local and is_saved_backbone(settings.source)
    )
    allowed = "left out unless model is one of Transformers"
    for name in ("adapter", "vision_weights"):
        value = getattr(settings, name)
        require(value is None or is_transformers, name, allowed, value)
    if settings.is_local and is_saved_backbone(settings.source):
        own, reading = load_own(settings.source, settings.pooling)
        side, channels = settings.image_size or own.settings.image_size, own.settings.channels
        processing = _fixed(side, settings)
        return FrozenEncoder(own, settings, processing=processing, reading=reading, channels=channels)
    if settings.is_factory:
        processing = _fixed(settings.image_size, settings)
        colours = len(processing.mean) if len(processing.mean) > 1 else None
        module = module_from_factory(settings.source)
        return FrozenEncoder(module, settings, processing=processing, channels=colours)
    found = _from_transformers(settings, trust_remote_code)
    found.trusts_remote_code = trust_remote_code
    return found


def _fixed(side: int | None, settings: EncoderSettings) -> ImageProcessing:
    name = "none" if settings.normalisation == "auto" else settings.normalisation
    mean, std = NORMALISATIONS[name]
    return ImageProcessing(mean, std, (side, side) if side else None)


def _from_transformers(settings: EncoderSettings, trust_remote_code: bool) -> FrozenEncoder:
    from heirloom.models.adapters import with_adapter
    from heirloom.models.open_clip import with_visual_weights
    from heirloom.models.transformers.checkpoint import load_checkpoint
    from heirloom.models.transformers.features import settle_reading
    from heirloom.models.transformers.processing import read_processing

    options = {"revision": settings.revision} if settings.revision is not None else {}
    found = load_checkpoint(
        settings.source, settings.pooling, {**options, "trust_remote_code": trust_remote_code}
    )
    if settings.vision_weights is not None:
        found = with_visual_weights(found, settings.vision_weights)
    if settings.adapter is not None:
        found = with_adapter(found, settings.adapter)
    processing = read_processing(
        settings.source, settings.normalisation, options, trust_remote_code=trust_remote_code
    )
    if processing is None and settings.normalisation == "auto":
        reject("normalisation", "given for a checkpoint without preprocessor_config.json", "auto")
    processing = _sized(processing or _fixed(None, settings), settings, found.config)
    config = getattr(found.config, "vision_config", found.config)
    channels = int(getattr(config, "num_channels", None) or getattr(config, "in_channels", None) or 3)
    side = processing.size or (224, 224)
    reading = settle_reading(found, processing, settings.pooling, (channels, *side))
    return FrozenEncoder(
        found.backbone,
        settings,
        processing=processing,
        reading=reading,
        channels=channels,
        missing=found.missing,
    )


def _sized(processing: ImageProcessing, settings: EncoderSettings, config: Any) -> ImageProcessing:
    """The size asked for, else the image processor's, else the configuration's."""
    if settings.image_size is not None:
        side = settings.image_size
        return replace(processing, size=(side, side), edge=None, pad_to=None)
    if processing.size is not None:
        return processing
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if isinstance(size, int):
        return replace(processing, size=(size, size))
    return replace(processing, size=tuple(size)) if isinstance(size, (list, tuple)) else processing
