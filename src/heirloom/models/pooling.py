"""From a Transformers model's outputs to one feature vector an image: which tokens are the image's, which not.

``auto`` takes the model's own pooled output where its weights came with the checkpoint, else the class token
where the model has one, else the mean over patches or positions; ``MEAN`` names the models whose pre-training
leaves the class token untrained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from heirloom.runtime.choices import Pooling
from heirloom.runtime.errors import reject

POOLINGS = ("auto", "cls", "mean", "pooler", "classifier", "logits", "image-text")
Count = int | str  # a number, or the field of the configuration that holds it


@dataclass(frozen=True)
class Tokens:
    """The tokens of ``last_hidden_state`` that are no patches.

    Attributes:
        first: whether the first is a class token.
        before, after: how many stand before the patches and after them: numbers, or configuration fields.
    """

    first: bool
    before: tuple[Count, ...] = ()
    after: tuple[Count, ...] = ()


CLASS, PATCHES = Tokens(True, (1,)), Tokens(False)
TOKENS: dict[str, Tokens] = {
    **dict.fromkeys(
        (
            "vit",
            "vit_mae",
            "vit_msn",
            "beit",
            "data2vec-vision",
            "dinov2",
            "dpt",
            "clip_vision_model",
            "chinese_clip_vision_model",
            "blip_vision_model",
            "altclip_vision_model",
            "clipseg_vision_model",
            "metaclip_2_vision_model",
            "owlvit_vision_model",
            "owlv2_vision_model",
            "flava_image_model",
            "mlcd",
            "mlcd_vision_model",
            "internvl_vision",
            "blip_2_vision_model",
            "instructblip_vision_model",
            "git_vision_model",
            "kosmos_2_vision_model",
            "pvt",
        ),
        CLASS,
    ),
    **dict.fromkeys(
        (
            "ijepa",
            "aimv2_vision_model",
            "siglip_vision_model",
            "siglip2_vision_model",
            "swin",
            "swinv2",
            "donut-swin",
            "maskformer-swin",
            "focalnet",
            "hiera",
            "levit",
            "groupvit_vision_model",
        ),
        PATCHES,
    ),
    "deit": Tokens(True, (2,)),  # class and distillation
    "dinov2_with_registers": Tokens(True, (1, "num_register_tokens")),
    "dinov3_vit": Tokens(True, (1, "num_register_tokens")),
    "yolos": Tokens(True, (1,), ("num_detection_tokens",)),
}
MEAN = ("vit_mae", "ijepa")
CHANNELS_LAST = ("dinat", "nat", "sam2_vision_model", "sam2_hiera_det_model", "edgetam_vision_model")
SPECIAL = (
    "cls_token",
    "class_token",
    "class_embedding",
    "distillation_token",
    "register_tokens",
    "cls_tokens",
    "cls_pos",
    "detection_tokens",
    "prefix_tokens",
    "storage_tokens",
)


@dataclass(frozen=True)
class Reading:
    """One way to read features, settled when a model is loaded.

    Attributes:
        kind: ``pooler``, ``cls``, ``mean``, ``classifier``, ``logits``, ``image-text`` or, of a module of the
            user's own, ``tensor``.
        before, after: tokens that a mean leaves out. channels_last: of a map of positions.
    """

    kind: str
    before: int = 0
    after: int = 0
    channels_last: bool = False

    def __call__(self, outputs: Any) -> Tensor:
        if isinstance(outputs, Tensor):
            return outputs.flatten(2).mean(2) if outputs.ndim == 4 else outputs.flatten(1)
        if self.kind == "tensor":
            reject("model", "one that returns a tensor", type(outputs).__name__)
        if self.kind in ("logits", "classifier"):  # whose last layer hands on what it reads
            return outputs.logits
        if self.kind == "image-text":
            embedded = getattr(outputs, "image_embeds", None)
            return outputs.pooler_output if embedded is None else embedded
        if self.kind == "pooler":
            return outputs.pooler_output.flatten(1)
        hidden = hidden_states(outputs)
        if hidden.ndim == 4:
            return hidden.mean((1, 2) if self.channels_last else (2, 3))
        if self.kind == "cls":
            return hidden[:, 0]
        return hidden[:, self.before : hidden.shape[1] - self.after].mean(1)


def hidden_states(outputs: Any) -> Tensor:
    """(N, tokens, D) or a map (N, D, H, W) of a Transformers output."""
    hidden = getattr(outputs, "last_hidden_state", None)
    if hidden is None and getattr(outputs, "feature_maps", None):
        hidden = outputs.feature_maps[-1]
    if not isinstance(hidden, Tensor) or hidden.ndim not in (3, 4):
        reject("model", "one with last_hidden_state (N, tokens, D) or (N, D, H, W)", type(outputs).__name__)
    return hidden


def choose_reading(
    backbone: nn.Module,
    outputs: Any,
    shape: tuple[int, int],
    pooling: Pooling,
    is_read_safely: Callable[[Reading], bool],
) -> Reading:
    """How features are read from this model.

    Args:
        outputs: of the model, for two images of this shape (height, width).
        pooling: what the user asked for.
        is_read_safely: whether a reading keeps clear of weights that the checkpoint lacks.

    Raises:
        InputError: a pooling that the model has not got, a model whose tokens nobody can tell apart, or one
            that needs weights which the checkpoint lacks.
    """
    readings = _possible(backbone, outputs, shape)
    if pooling != "auto":
        if pooling not in readings:
            reject("pooling", f"{' or '.join(sorted(readings)) or 'another'} for {_named(backbone)}", pooling)
        return readings[pooling]
    if not readings:
        reject("pooling", f"given for {_named(backbone)}, whose tokens are not known here", pooling)
    order = ("mean", "cls") if model_type(backbone) in MEAN else ("pooler", "cls", "mean")
    for kind in order:
        if kind in readings and is_read_safely(readings[kind]):
            return readings[kind]
    reject("model", "a checkpoint with all the weights that its features need", "one that lacks some of them")


def _possible(backbone: nn.Module, outputs: Any, shape: tuple[int, int]) -> dict[str, Reading]:
    """The readings that this model has, the safest left to the caller."""
    found = {}
    if isinstance(getattr(outputs, "pooler_output", None), Tensor) and outputs.pooler_output.ndim >= 2:
        found["pooler"] = Reading("pooler")
    if getattr(outputs, "last_hidden_state", None) is None and found:
        return found
    hidden = hidden_states(outputs)
    if hidden.ndim == 4:
        found["mean"] = Reading("mean", channels_last=_has_channels_last(backbone, hidden))
        return found
    tokens = _tokens(backbone, hidden.shape[1], shape)
    if tokens is None:
        return found
    before, after = (_count(backbone, counts) for counts in (tokens.before, tokens.after))
    if tokens.first:
        found["cls"] = Reading("cls")
    if before + after < hidden.shape[1]:
        found["mean"] = Reading("mean", before, after)
    return found


def _tokens(backbone: nn.Module, count: int, shape: tuple[int, int]) -> Tokens | None:
    """The table's word, or, of an unknown model, what its special parameters and its patches agree on."""
    kind = model_type(backbone)
    if kind in TOKENS:
        return TOKENS[kind]
    special = {
        name: value.shape[-2] if value.ndim > 1 else 1
        for name, value in backbone.state_dict().items()
        if name.rpartition(".")[2] in SPECIAL
    }
    ahead = sum(special.values())
    patches = _patches(backbone, shape)
    if patches is None or count != patches + ahead:
        return None
    first = any(name.rpartition(".")[2].startswith("cl") for name in special)
    return Tokens(first, (ahead,))


def _patches(backbone: nn.Module, shape: tuple[int, int]) -> int | None:
    patch = getattr(getattr(backbone, "config", None), "patch_size", None)
    sides = (patch, patch) if isinstance(patch, int) else patch
    if not isinstance(sides, (list, tuple)) or len(sides) != 2:
        return None
    return (shape[0] // sides[0]) * (shape[1] // sides[1])


def _has_channels_last(backbone: nn.Module, hidden: Tensor) -> bool:
    if model_type(backbone) in CHANNELS_LAST:
        return True
    config: Any = getattr(backbone, "config", None)
    widths = getattr(config, "hidden_sizes", None) or [getattr(config, "hidden_size", None)]
    last = widths[-1] if isinstance(widths, (list, tuple)) else widths
    return hidden.shape[1] != last and hidden.shape[3] == last


def _count(backbone: nn.Module, counts: tuple[Count, ...]) -> int:
    config: Any = getattr(backbone, "config", None)
    return sum(c if isinstance(c, int) else int(getattr(config, c, 0) or 0) for c in counts)


def model_type(backbone: nn.Module) -> str:
    """Transformers' name of the architecture; empty for other modules."""
    return str(getattr(getattr(backbone, "config", None), "model_type", ""))


def _named(backbone: nn.Module) -> str:
    return f"a {model_type(backbone) or type(backbone).__name__} model"
