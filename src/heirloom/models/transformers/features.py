"""How features are read of a model of Transformers, so that no weight that its checkpoint lacks is ever read.

Missing weights become NaN while two images pass through: a reading of the features in which NaN arrives needs them and
is not used. Afterwards they are zero, and neither saved nor part of the fingerprint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from heirloom.models.image_processor import ImageProcessing
from heirloom.models.pooling import Reading, choose_reading, model_type
from heirloom.models.transformers.checkpoint import Checkpoint
from heirloom.models.transformers.read_through import read_through
from heirloom.runtime.choices import Pooling
from heirloom.runtime.errors import InputError, reject, require


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
    how = pooling if pooling in ("classifier", "logits", "image-text") else "features"
    weights = [value for name, value in found.backbone.state_dict().items() if name in found.missing]
    _fill(weights, float("nan"))
    if pooling == "classifier":
        _read_classifier(found, pixels)
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


def _read_classifier(found: Checkpoint, pixels: Tensor) -> None:
    """Let the model say what its classifier reads.

    Raises:
        InputError: no linear layer says its logits, or the checkpoint lacks that layer.
    """
    layer = read_through(found.backbone, lambda: _tried(found.backbone, pixels, "logits"))
    wanted = "another than classifier for a model whose logits no linear layer says"
    require(layer is not None, "pooling", wanted, f"a {model_type(found.backbone)} model")
    lacking = f"{layer}.weight"
    wanted = "a checkpoint with a classifier of its own for pooling classifier"
    require(lacking not in found.missing, "model", wanted, f"one without {lacking}")


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
