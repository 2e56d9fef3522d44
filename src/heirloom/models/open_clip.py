"""Visual weights of open_clip, robust CLIPs' (FARE, TeCoA), put into a CLIP of Transformers.

FARE (Schlarmann et al., ICML 2024) and TeCoA (Mao et al., ICLR 2023) are published as the visual half of a CLIP under
open_clip's names: pre-norm blocks with one matrix for queries, keys and values, and a projection applied from the
right. What the file does not say (text side, activation, normalisation of pixels) is that of the model they go into.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.models.transformers.checkpoint import Checkpoint
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.files import read_tensors

FIRST = (
    "conv1.weight"  # by which the prefix of all names is found: "visual.", "module.visual.", "model.", none
)
WHOLE = {
    "class_embedding": "embeddings.class_embedding",
    FIRST: "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def with_visual_weights(found: Checkpoint, place: str) -> Checkpoint:
    """The checkpoint with the vision tower (and projection, where it has one) of the file ``place``.

    Args:
        found: a CLIP of Transformers, whole (pooling ``image-text``) or its vision tower.
        place: ``.safetensors``, or a ``.pt`` that holds tensors alone (it is read with ``weights_only``).

    Raises:
        InputError: no such file, one that needs pickled code, weights of another architecture or size, by name.
    """
    theirs = visual_weights(Path(place))
    backbone: Any = found.backbone
    tower, prefix = (backbone, "") if hasattr(backbone, "embeddings") else (_tower(backbone), "vision_model.")
    wanted = {name: value for name, value in tower.state_dict().items() if not name.endswith("position_ids")}
    given = transformers_names(theirs)
    projection = given.pop("projection", None)
    if projection is not None and isinstance(getattr(backbone, "visual_projection", None), nn.Linear):
        wanted["projection"], given["projection"] = backbone.visual_projection.weight, projection
    _check(wanted, given)
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(given[name])
    named = {f"{prefix}{name}" for name in wanted} | {"visual_projection.weight"}
    return replace(found, missing=frozenset(found.missing - named))


def visual_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of open_clip's visual transformer in a file, float32, under their names without any prefix."""
    require(path.is_file(), "vision_weights", "an existing file", f"{path}, which is none")
    if path.suffix == ".safetensors":
        found: Any = read_tensors(path)[0]
    else:
        found = _unpickled(path)
    heads = [name for name in found if name.endswith(FIRST)]
    if len(heads) != 1:
        allowed = "the visual weights of open_clip (conv1.weight, class_embedding, ...)"
        reject("vision_weights", allowed, f"{path.name}, with {', '.join(list(found)[:3]) or 'nothing'}")
    prefix = heads[0].removesuffix(FIRST)
    return {k.removeprefix(prefix): v.float() for k, v in found.items() if k.startswith(prefix)}


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError("vision_weights", "a file of tensors alone", f"{path.name}: {reason}") from None
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inside = next((found[key] for key in ("state_dict", "model", "visual") if key in found), None)
        if inside is None:
            break
        found = inside
    if not isinstance(found, Mapping):
        reject("vision_weights", "a file of named tensors", f"{path.name}, a {type(found).__name__}")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def transformers_names(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's visual weights under the names of Transformers' vision tower, and ``projection`` (D, width)."""
    ours: dict[str, Tensor] = {}
    for name, value in theirs.items():
        stem, _, kind = name.rpartition(".")
        if name == "proj":
            ours["projection"] = value.T
        elif name in WHOLE:
            ours[WHOLE[name]] = value
        elif stem in WHOLE:
            ours[f"{WHOLE[stem]}.{kind}"] = value
        elif name.startswith("transformer.resblocks."):
            number, _, inside = name.removeprefix("transformer.resblocks.").partition(".")
            ours |= _block(number, inside, value)
    return ours


def _block(number: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of one block; the joint matrix of queries, keys and values is taken apart."""
    place, (stem, _, kind) = f"encoder.layers.{number}", name.rpartition(".")
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        parts = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
        return {f"{place}.self_attn.{part}.{kind}": tensor for part, tensor in parts}
    if stem == "attn.out_proj":
        return {f"{place}.self_attn.out_proj.{kind}": value}
    return {f"{place}.{BLOCK.get(stem, stem)}.{kind}": value}


def _tower(backbone: nn.Module) -> nn.Module:
    tower = getattr(backbone, "vision_model", None)
    if not isinstance(tower, nn.Module) or not hasattr(tower, "embeddings"):
        reject("vision_weights", "used with a CLIP model", type(backbone).__name__)
    return tower


def _check(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Every weight of the tower is in the file, at its size, and none besides."""
    allowed = "weights that fit the model's vision tower"
    lacking, beyond = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if lacking or beyond:
        came = f"none for {lacking[0]}" if lacking else f"{beyond[0]}, which it has not"
        reject("vision_weights", allowed, came)
    for name, value in wanted.items():
        if value.shape != given[name].shape:
            reject("vision_weights", allowed, f"{tuple(given[name].shape)} for {name} {tuple(value.shape)}")
