"""Foundation models of Transformers: loaded whole, the vision tower taken, no missing weight ever read.

Transformers fills weights that a checkpoint lacks with random numbers and warns. Here they become NaN while two
images pass through: a reading of the features in which NaN arrives needs them and is not used. Afterwards they
are zero, and neither saved nor part of the fingerprint.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.models.image_processor import ImageProcessing, interpret
from heirloom.models.pooling import Reading, choose_reading, model_type
from heirloom.runtime.choices import Pooling
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.files import read_json, write_json
from heirloom.runtime.hub import offline_where_unreachable

OURS = "heirloom"  # in a preprocessor_config.json that :meth:`FrozenEncoder.save` wrote: nothing is left to defaults
CLASS_KEY = "heirloom_model_class"  # of a tower that AutoModel does not know, in its own config.json
VIDEO = ("videomae", "vivit", "timesformer", "vjepa2")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model. ``missing``: its state's names that the checkpoint lacks."""

    backbone: nn.Module
    missing: frozenset[str]
    config: Any


def load_checkpoint(source: str, pooling: Pooling, options: dict[str, Any]) -> Checkpoint:
    """The model of ``source`` for this pooling: vision tower, whole classifier (``logits``) or both towers.

    Args:
        options: of ``from_pretrained``: revision, trust_remote_code.

    Raises:
        InputError: what is unknown, unreachable, corrupt, or takes no images.
    """
    if (Path(source) / "adapter_config.json").is_file() and not (Path(source) / "config.json").is_file():
        reject(
            "model",
            "a whole model, with a LoRA folder as its adapter (--adapter)",
            f"{source}, a LoRA folder",
        )
    if not Path(source).exists():
        offline_where_unreachable()
    with _one_sentence(source), _quiet():
        found = _load(source, pooling, options)
    require(model_type(found.backbone) not in VIDEO, "model", "one that takes images, not videos", source)
    takes = inspect.signature(found.backbone.forward).parameters
    whole = pooling == "image-text"
    if not whole and "pixel_values" not in takes:
        reject("model", "one that takes images", f"{type(found.backbone).__name__} of {source}")
    return found


def _load(source: str, pooling: Pooling, options: dict[str, Any]) -> Checkpoint:
    import transformers

    own = _own_class(source)
    if own is not None:
        return _loaded(own, source, own.config_class.from_pretrained(source), {})
    config = transformers.AutoConfig.from_pretrained(source, **options)
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0
    if pooling == "logits":
        return _loaded(transformers.AutoModelForImageClassification, source, config, options)
    vision = getattr(config, "vision_config", None) or getattr(config, "image_config", None)
    if vision is None or pooling == "image-text":
        return _loaded(transformers.AutoModel, source, config, options)
    return _tower(source, config, vision, options)


def _tower(source: str, config: Any, vision: Any, options: dict[str, Any]) -> Checkpoint:
    """The vision tower by its own class where that finds all its weights, else cut out of the whole model."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(vision) in MODEL_MAPPING:
        try:
            alone = _loaded(MODEL_MAPPING[type(vision)], source, vision, options)
        except (RuntimeError, ValueError):  # two towers' weights under one name
            alone = None
        if alone is not None and not alone.missing:
            return alone
    whole = _loaded(transformers.AutoModel, source, config, options)
    for name, module in whole.backbone.named_modules():
        if name and isinstance(module, transformers.PreTrainedModel) and type(module.config) is type(vision):
            cut = frozenset(m.removeprefix(f"{name}.") for m in whole.missing if m.startswith(f"{name}."))
            return Checkpoint(module, cut, vision)
    reject("model", "one with a vision tower of its own", f"{type(whole.backbone).__name__} of {source}")


def _loaded(kind: Any, source: str, config: Any, options: dict[str, Any]) -> Checkpoint:
    with torch.random.fork_rng():
        model, told = kind.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    _aligned(model)
    names = set(model.state_dict())
    return Checkpoint(model.eval(), frozenset(set(told["missing_keys"]) & names), config)


def _aligned(model: nn.Module) -> None:
    """Weights in memory of their own: mapped from a file they start anywhere, and kernels round by alignment."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _own_class(source: str) -> Any:
    """The class of a tower that was saved by :func:`save_checkpoint`: one of Transformers' own, nothing else."""
    import transformers

    place = Path(source) / "config.json"
    name = read_json(place).get(CLASS_KEY) if place.is_file() else None
    if name is None:
        return None
    module, _, kind = str(name).rpartition(".")
    require(module.startswith("transformers.models."), CLASS_KEY, "a class of Transformers", name)
    found = getattr(import_module(module), kind, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        reject(CLASS_KEY, "a class of Transformers", name)
    return found


def save_checkpoint(backbone: Any, missing: frozenset[str], folder: Path) -> None:
    """``save_pretrained`` without the missing weights; a tower that AutoModel does not know names its class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kept = {name: value for name, value in backbone.state_dict().items() if name not in missing}
    backbone.save_pretrained(folder, state_dict=kept)
    kind, config = type(backbone), type(backbone.config)
    known = model_type(backbone) in CONFIG_MAPPING and config in MODEL_MAPPING
    if known and issubclass(kind, MODEL_MAPPING[config]):
        return
    if "ForImageClassification" not in kind.__name__ and kind.__module__.startswith("transformers.models."):
        place = folder / "config.json"
        write_json(place, {**read_json(place), CLASS_KEY: f"{kind.__module__}.{kind.__qualname__}"})


def run_model(backbone: Any, pixels: Tensor, reading: str) -> Any:
    """The model's outputs for processed pixels (N, C, H, W), the same ones every time."""
    kind = model_type(backbone)
    if reading == "image-text":
        return backbone.get_image_features(**_inputs(backbone.config.vision_config, pixels))
    if kind == "vit_mae":
        patches = int(backbone.embeddings.patch_embeddings.num_patches)
        order = torch.linspace(0, 1, patches, device=pixels.device).expand(pixels.shape[0], -1)
        return backbone(pixels, noise=order)
    return backbone(**_inputs(backbone.config, pixels))


def _inputs(config: Any, pixels: Tensor) -> dict[str, Any]:
    if config.model_type not in ("siglip2_vision_model", "siglip2"):
        return {"pixel_values": pixels}
    side = int(config.patch_size)
    count, channels, height, width = pixels.shape
    rows, columns = height // side, width // side
    patches = pixels.reshape(count, channels, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
    shapes = torch.tensor([[rows, columns]], device=pixels.device).expand(count, -1)
    return {
        "pixel_values": patches.reshape(count, rows * columns, side * side * channels),
        "pixel_attention_mask": torch.ones(count, rows * columns, dtype=torch.int64, device=pixels.device),
        "spatial_shapes": shapes,
    }


@torch.no_grad()
def settle_reading(
    found: Checkpoint, processing: ImageProcessing, pooling: Pooling, shape: tuple[int, int, int]
) -> Reading:
    """How features are read, tried on two images of ``shape``; missing weights are zero afterwards.

    Raises:
        InputError: a model that does not take such images, needs weights that the checkpoint lacks, gives
            another answer the second time, or features that are not finite.
    """
    sees_texts = pooling != "image-text" or hasattr(found.backbone, "get_image_features")
    wanted = "one that compares images with texts (CLIP, SigLIP) for pooling image-text or a zero-shot head"
    require(sees_texts, "model", wanted, type(found.backbone).__name__)
    generator = torch.Generator().manual_seed(0)
    pixels = processing(torch.rand(2, *shape, generator=generator))
    how = pooling if pooling in ("logits", "image-text") else "features"
    weights = [value for name, value in found.backbone.state_dict().items() if name in found.missing]
    _fill(weights, float("nan"))
    outputs = _tried(found.backbone, pixels, how)
    if how == "features":
        reading = choose_reading(
            found.backbone,
            outputs,
            (pixels.shape[2], pixels.shape[3]),
            pooling,
            lambda r: not found.missing or bool(r(outputs).isfinite().all()),
        )
    else:
        reading = Reading(pooling)
    features = reading(outputs)
    if found.missing and not bool(features.isfinite().all()):
        lacking = ", ".join(sorted(found.missing)[:3])
        reject("model", f"a checkpoint with all weights that {reading.kind} needs", f"one without {lacking}")
    _fill(weights, 0.0)
    _check(found.backbone, pixels, how, reading, features)
    return reading


def _check(backbone: nn.Module, pixels: Tensor, how: str, reading: Reading, features: Tensor) -> None:
    require(features.ndim == 2, "model", "one whose features have shape (N, D)", tuple(features.shape))
    require(bool(features.isfinite().all()), "model", "one whose features are finite", "NaN or infinity")
    again = reading(_tried(backbone, pixels, how))
    same = torch.allclose(features, again, rtol=1e-3, atol=1e-5)
    require(same, "model", "one that gives the same image the same features", "another answer each time")


def _tried(backbone: nn.Module, pixels: Tensor, how: str) -> Any:
    try:
        return run_model(backbone, pixels, how)
    except InputError:
        raise
    except Exception as error:  # whatever a model raises over images that do not suit it
        reason = " ".join(str(error).split())[:160]
        shape = " x ".join(map(str, pixels.shape[1:]))
        reject("model", f"one that takes images of {shape}", f"{type(error).__name__}: {reason}")


def _fill(weights: list[Tensor], value: float) -> None:
    for weight in weights:
        if weight.is_floating_point():
            weight.fill_(value)


def read_processing(
    source: str, normalisation: str, options: dict[str, Any], *, trust_remote_code: bool = False
) -> ImageProcessing | None:
    """The checkpoint's image processor, class defaults included; None where it has no file of one.

    Raises:
        InputError: fields that cannot be read, or that Transformers' own class reads otherwise.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        written, _ = ImageProcessingMixin.get_image_processor_dict(source, **options)
    except (OSError, ValueError):
        return None
    ours = written.pop(OURS, False)
    with _quiet():
        official = None if ours else _official(source, options, trust_remote_code)
    if official is None:
        return interpret(written, normalisation=normalisation, official=bool(ours))
    fields = _with_defaults(written, official.to_dict())
    processing = interpret(fields, normalisation=normalisation, official=True)
    if normalisation == "auto":
        _compare(processing, official, fields)
    return processing


def _official(source: str, options: dict[str, Any], trust_remote_code: bool) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(
            source, backend="pil", trust_remote_code=trust_remote_code, **options
        )
    except Exception:  # no such class, or one that needs packages that are absent: the fields alone must do
        return None


def _with_defaults(written: dict[str, Any], official: dict[str, Any]) -> dict[str, Any]:
    """Written fields, with the class's defaults for colours, and for sizes where no size is written."""
    fields = {**official, **{k: v for k, v in written.items() if k not in official or v is None}}
    if "size" in written and "crop_size" not in written:
        fields.pop("crop_size", None)
    return {**fields, **{k: written[k] for k in ("size", "crop_size") if k in written}}


def _compare(processing: ImageProcessing, official: Any, fields: dict[str, Any]) -> None:
    """Two images of one colour each, which no resizing changes, through Transformers' class and through ours."""
    for colour in ((40, 130, 220), (200, 90, 10)):
        image = torch.tensor(colour, dtype=torch.uint8).view(1, 1, 3).repeat(64, 64, 1).numpy()
        try:
            theirs = torch.as_tensor(official(image, return_tensors="pt")["pixel_values"])[0]
        except Exception:  # sizes that its class does not take: nothing to compare with
            return
        ours = processing(torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 8, 8) / 255)[0, :, 0, 0]
        seen = theirs[:, theirs.shape[1] // 2, theirs.shape[2] // 2] if theirs.ndim == 3 else theirs[0, :3]
        if ours.shape == seen.shape and not torch.allclose(ours, seen.float(), rtol=1e-3, atol=1e-3):
            reject(
                "preprocessor_config.json",
                "one whose colours are read as Transformers reads them",
                f"{type(official).__name__}, which gives {seen.tolist()} where its fields say {ours.tolist()}",
            )


@contextmanager
def _one_sentence(source: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # unknown, unreachable, corrupt: the library raises many kinds
        if "trust_remote_code" in str(error):
            wanted = "given for a model that brings its own code, once you have read that code"
            raise InputError("trust_remote_code", wanted, source) from None
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            "model",
            "a hub id within reach, a local Transformers folder or package.module:factory",
            f"{source}, which could not be loaded: {reason}",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
