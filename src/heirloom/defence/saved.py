"""Saved defences: a hub-style folder of config.json, model.safetensors and a model card.

The foundation model is named, with its revision and a fingerprint of its weights, and not copied, unless it is
a local folder: that one is saved beside the rest, under ``encoder/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from torch import Tensor, nn

from heirloom.data.pictures import Picture, read_pictures
from heirloom.defence.card import licence_of, model_card
from heirloom.models.defended import Defended, describe_head, rebuild_head
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.models.preprocessor import Preprocessor, rebuild_preprocessor
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json, read_tensors, write_bytes, write_json, write_tensors, write_text
from heirloom.runtime.hub import offline_where_unreachable
from heirloom.runtime.identity import module_facts
from heirloom.runtime.kinds import kinds_checked
from heirloom.threat import check_images

CONFIG, WEIGHTS, LOCAL_ENCODER = "config.json", "model.safetensors", "encoder"
PROCESSOR, CODE_FILE = "preprocessor_config.json", "heirloom_hub.py"
AUTO_MAP = {
    "AutoConfig": "heirloom_hub.HeirloomConfig",
    "AutoModelForImageClassification": "heirloom_hub.HeirloomForImageClassification",
}
CODE = '''"""What Transformers runs with trust_remote_code=True: heirloom's own classes; heirloom must be installed."""

from heirloom.defence.hub_model import HeirloomConfig as _Config
from heirloom.defence.hub_model import HeirloomForImageClassification as _Model


class HeirloomConfig(_Config):
    pass


class HeirloomForImageClassification(_Model):
    config_class = HeirloomConfig
'''
FORMAT = 2


class DefendedModel(
    Defended,
    ModelHubMixin,
    library_name="heirloom",
    tags=["adversarial-robustness", "image-classification"],
    license="apache-2.0",
):
    """A frozen foundation model with its preprocessor and head: [0, 1] pixels (N, C, H, W) -> logits.

    Attributes:
        image_shape: (C, H, W) that it takes. classes: the names behind the logits.
        defence: how the preprocessor was made (method, lambda, temperature, threat, ...), for the record.
    """

    def __init__(
        self,
        preprocessor: nn.Module,
        encoder: FrozenEncoder,
        head: nn.Module,
        *,
        image_shape: tuple[int, int, int],
        classes: tuple[str, ...],
        defence: dict[str, Any],
    ) -> None:
        super().__init__(preprocessor, encoder, head)
        self.image_shape, self.classes, self.defence = image_shape, classes, defence
        self.summary: dict[str, Any] | None = None

    @torch.no_grad()
    def predict(self, images: Tensor | Picture | Sequence[Picture]) -> tuple[Tensor, Tensor]:
        """(class indices (N,), probabilities (N, classes)).

        Args:
            images: floating (N, C, H, W) in [0, 1] of the model's shape, a tensor or an array; or files, PIL images and
                arrays, which :func:`heirloom.data.pictures.read_pictures` brings to that shape, rounded to 8 bits.

        Raises:
            InputError: of another shape, no floating numbers, or outside [0, 1]. (Calling the model asks nothing.)
        """
        place = next(self.parameters(), torch.empty(0)).device
        if isinstance(images, np.ndarray) and images.ndim == 4 and images.dtype.kind == "f":
            images = torch.from_numpy(np.ascontiguousarray(images)).to(place)
        if not isinstance(images, Tensor):
            images = read_pictures(images, self.image_shape).to(place)
        require(
            tuple(images.shape[1:]) == self.image_shape,
            "images",
            f"of shape (N, {', '.join(map(str, self.image_shape))})",
            tuple(images.shape),
        )
        check_images(images)
        probabilities = self(images.float()).softmax(1)
        return probabilities.argmax(1), probabilities

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        assert isinstance(self.encoder, FrozenEncoder)
        settings = self.encoder.settings
        stored = (
            replace(settings, source=LOCAL_ENCODER, adapter=None, vision_weights=None)
            if settings.is_copied
            else settings
        )
        is_autoencoder = isinstance(self.preprocessor, Preprocessor)
        described = self.preprocessor.describe() if is_autoencoder else None  # type: ignore[operator]
        return {
            "library_name": "heirloom",
            "format": FORMAT,
            **_for_transformers(self.classes),
            "image_shape": list(self.image_shape),
            "classes": list(self.classes),
            "preprocessor": described,
            "encoder": {**asdict(stored), "fingerprint": self.encoder.fingerprint()},
            "head": describe_head(self.head),
            "digests": {
                name: module_facts(getattr(self, name))["weights"] for name in ("preprocessor", "head")
            },
            "licence": licence_of(settings),
            "defence": self.defence,
        }

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        return ModelCard(model_card(self.config(), self.summary))

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self.encoder, FrozenEncoder)
        if self.encoder.settings.is_copied:
            self.encoder.save(save_directory / LOCAL_ENCODER)
            note = Path(self.encoder.settings.source) / "README.md"
            if note.is_file():  # its card names its licence
                write_bytes(save_directory / LOCAL_ENCODER / "README.md", note.read_bytes())
        self.save_own(save_directory)
        (save_directory / "README.md").unlink(missing_ok=True)  # the card follows the figures

    def save_own(self, folder: Path) -> None:
        """config.json and model.safetensors alone: enough where the encoder is at hand."""
        tensors = {f"preprocessor.{k}": v for k, v in self.preprocessor.state_dict().items()}
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
        write_json(folder / CONFIG, self.config())
        write_json(folder / PROCESSOR, _image_processor(self.image_shape))
        write_text(folder / CODE_FILE, CODE)

    @classmethod
    @kinds_checked()
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> DefendedModel:
        """Load a saved defence; logits are those of the model that was saved.

        Args:
            pretrained_model_name_or_path: a folder, or a hub id.
            encoder: the foundation model, loaded already (:class:`heirloom.models.encoder.FrozenEncoder`).
            trust_remote_code: let code that the folder or its foundation model names run: needed where that
                model is a ``package.module:factory``. Off unless asked.
            revision, token, cache_dir, force_download, local_files_only: the hub's own.

        Raises:
            InputError: no such folder or id, files missing or corrupt, foundation model changed since.
        """
        place = str(pretrained_model_name_or_path)
        known = ("revision", "token", "cache_dir", "force_download", "local_files_only")
        folder = Path(place)
        if not folder.is_dir():
            folder = _download(place, {k: v for k, v in options.items() if k in known})
        return cls._from_pretrained(
            model_id=str(folder), **{k: v for k, v in options.items() if k not in known}
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        encoder: FrozenEncoder | None = None,
        trust_remote_code: bool = False,
        **_: Any,
    ) -> DefendedModel:
        folder = Path(model_id)
        if not (folder / CONFIG).exists():
            raise InputError(str(folder), "a folder that heirloom saved", f"one without {CONFIG}")
        config = _checked(read_json(folder / CONFIG), folder)
        preprocessor: nn.Module = nn.Identity()
        if config["preprocessor"] is not None:
            preprocessor = rebuild_preprocessor(config["preprocessor"])
        head = rebuild_head(config["head"])
        tensors, _metadata = read_tensors(folder / WEIGHTS)
        for name, module in (("preprocessor", preprocessor), ("head", head)):
            _load_part(module, name, tensors, folder)
            if module_facts(module)["weights"] != config["digests"].get(name):
                allowed = f"the weights that {folder} was saved with"
                raise InputError(str(folder / WEIGHTS), allowed, f"a {name} that was changed since")
        if encoder is None:
            encoder = _stored_encoder(config["encoder"], folder, trust_remote_code)
        if encoder.fingerprint() != config["encoder"]["fingerprint"]:
            raise InputError(
                "foundation model",
                f"the one that {folder} was made for",
                f"other weights: {encoder.settings.source}",
            )
        model = cls(
            preprocessor,
            encoder,
            head,
            image_shape=tuple(config["image_shape"]),
            classes=tuple(config["classes"]),
            defence=config["defence"],
        )
        return model.eval()


def _for_transformers(classes: tuple[str, ...]) -> dict[str, Any]:
    """What Transformers reads of config.json."""
    return {
        "model_type": "heirloom",
        "architectures": ["HeirloomForImageClassification"],
        "auto_map": AUTO_MAP,
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def _image_processor(shape: tuple[int, int, int]) -> dict[str, Any]:
    """Shorter side resized (bicubic), centre cropped, [0, 1]: as ``predict`` reads pictures."""
    height, width = shape[1:]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": min(height, width)},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
    }


def _download(place: str, options: dict[str, Any]) -> Path:
    if place.startswith((".", "/", "~")) or place.count("/") > 1:
        raise InputError("model", "an existing folder or a hub id", f"{place}, which is neither")
    offline_where_unreachable()
    try:
        return Path(snapshot_download(place, **options))
    except Exception as error:  # network, authentication, no such repository, not a valid id
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            "model", "an existing folder or a hub id within reach", f"{place}: {reason}"
        ) from None


def _checked(config: Any, folder: Path) -> dict[str, Any]:
    needed = {"image_shape", "classes", "preprocessor", "encoder", "head", "digests", "defence"}
    if not isinstance(config, dict) or config.get("library_name") != "heirloom" or not needed <= set(config):
        raise InputError(str(folder), "a folder that heirloom saved", "a config.json that is not heirloom's")
    require(config.get("format") == FORMAT, f"{folder}'s format", str(FORMAT), config.get("format"))
    return config


def _load_part(module: nn.Module, name: str, tensors: dict[str, Tensor], folder: Path) -> None:
    part = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
    try:
        module.load_state_dict(part)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            str(folder / WEIGHTS), "weights that fit its config.json", f"a {name} that does not: {reason}"
        ) from None


def _stored_encoder(stored: dict[str, Any], folder: Path, trust_remote_code: bool) -> FrozenEncoder:
    fields = {name: value for name, value in stored.items() if name != "fingerprint"}
    settings = EncoderSettings(**fields)
    if settings.source == LOCAL_ENCODER:
        settings = replace(settings, source=str(folder / LOCAL_ENCODER))
    if settings.is_factory and not trust_remote_code:
        raise InputError(
            "trust_remote_code",
            f"given to run the code of {settings.source}, which this folder names as its foundation model",
            False,
        )
    return load_encoder(settings, trust_remote_code=trust_remote_code)
