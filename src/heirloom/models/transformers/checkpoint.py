"""Models of Transformers loaded whole, the vision tower taken; saved so that they load again as they are.

Transformers fills weights that a checkpoint lacks with random numbers and warns; here their names are kept.
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
from torch import nn

from heirloom.models.pooling import model_type
from heirloom.models.transformers.voice import quiet
from heirloom.runtime.choices import Pooling
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.files import read_json, write_json
from heirloom.runtime.hub import offline_where_unreachable

CLASS_KEY = "heirloom_model_class"  # of a tower that AutoModel does not know, in its own config.json
VIDEO = ("videomae", "vivit", "timesformer", "vjepa2")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model. ``missing``: its state's names that the checkpoint lacks."""

    backbone: nn.Module
    missing: frozenset[str]
    config: Any


def load_checkpoint(source: str, pooling: Pooling, options: dict[str, Any]) -> Checkpoint:
    """The model of ``source`` for this pooling: vision tower, whole classifier (``classifier``, ``logits``) or both.

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
    with _one_sentence(source), quiet():
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
    if pooling in ("logits", "classifier"):
        return _loaded(transformers.AutoModelForImageClassification, source, config, options)
    vision = getattr(config, "vision_config", None) or getattr(config, "image_config", None)
    if vision is None or pooling == "image-text":
        return _loaded(transformers.AutoModel, source, config, options)
    return _tower(source, config, vision, options)


def _tower(source: str, config: Any, vision: Any, options: dict[str, Any]) -> Checkpoint:
    """The vision tower by its own class where that finds all its weights, else cut out of the whole model."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    vision.id2label, vision.label2id = config.id2label, config.label2id  # of a classifier on this tower
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
