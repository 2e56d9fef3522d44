"""Tiny foundation models of many kinds, made on the spot, with the image processors of their families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

SIDE = 16
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": SIDE,
    "patch_size": 4,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
    "max_position_embeddings": 16,
    "eos_token_id": 2,  # CLIP then pools at the highest token
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SWIN: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 2,
    "image_size": SIDE,
    "patch_size": 2,
}
SAM: dict[str, Any] = {
    "vision_config": {
        **VIT,
        "output_channels": 8,
        "num_pos_feats": 4,
        "window_size": 2,
        "mlp_dim": 24,
        "global_attn_indexes": [1],
    },
    "prompt_encoder_config": {
        "hidden_size": 8,
        "image_size": SIDE,
        "patch_size": 4,
        "mask_input_channels": 4,
    },
    "mask_decoder_config": {
        "hidden_size": 8,
        "mlp_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 8,
        "iou_head_depth": 2,
    },
}
COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
SQUARE = {"size": {"height": SIDE, "width": SIDE}, **COLOURS}


def cls(out: Any) -> torch.Tensor:
    return out.last_hidden_state[:, 0]


def mean(out: Any) -> torch.Tensor:
    return out.last_hidden_state.mean(1)


def maps(out: Any) -> torch.Tensor:
    return out.last_hidden_state.mean((2, 3))


def pooled(out: Any) -> torch.Tensor:
    return out.pooler_output.flatten(1)


@dataclass(frozen=True)
class Animal:
    """A kind of model.

    Attributes:
        config, model: names of Transformers' classes, and the fields of the configuration.
        processor, fields: name of the image processor class without "Pil", and its fields.
        features: of the official model's outputs. tower: the part of it that sees.
    """

    config: str
    settings: dict[str, Any]
    model: str
    processor: str
    fields: dict[str, Any]
    features: Callable[[Any], torch.Tensor]
    tower: str | None = None


def _vit(config: str, model: str, processor: str, features: Any, **more: Any) -> Animal:
    fields = {**SQUARE}
    if processor in (
        "CLIPImageProcessor",
        "BitImageProcessor",
        "DeiTImageProcessor",
        "ChineseCLIPImageProcessor",
    ):
        fields = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, **COLOURS}
    return Animal(config, {**VIT, **more}, model, processor, fields, features)


def _dual(config: str, model: str, processor: str, features: Any = pooled, **vision: Any) -> Animal:
    fields = _vit(config, model, processor, features).fields
    settings = {"text_config": TEXT, "vision_config": {**VIT, **vision}}
    return Animal(config, settings, model, processor, fields, features, "vision_model")


ZOO: dict[str, Animal] = {
    "vit": _vit("ViTConfig", "ViTModel", "ViTImageProcessor", pooled),
    "vit classifier": _vit("ViTConfig", "ViTForImageClassification", "ViTImageProcessor", cls),
    "deit": _vit("DeiTConfig", "DeiTModel", "DeiTImageProcessor", pooled),
    "deit classifier": _vit("DeiTConfig", "DeiTForImageClassification", "DeiTImageProcessor", cls),
    "vit_msn": _vit("ViTMSNConfig", "ViTMSNModel", "ViTImageProcessor", cls),
    "beit": _vit("BeitConfig", "BeitModel", "BeitImageProcessor", pooled),
    "beit classifier": _vit("BeitConfig", "BeitForImageClassification", "BeitImageProcessor", pooled),
    "data2vec": _vit("Data2VecVisionConfig", "Data2VecVisionModel", "BeitImageProcessor", cls),
    "dinov2": _vit("Dinov2Config", "Dinov2Model", "BitImageProcessor", pooled),
    "dinov2 classifier": _vit("Dinov2Config", "Dinov2ForImageClassification", "BitImageProcessor", pooled),
    "dinov2 registers": _vit(
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        "BitImageProcessor",
        pooled,
        num_register_tokens=3,
    ),
    "dinov3": _vit("DINOv3ViTConfig", "DINOv3ViTModel", "ViTImageProcessor", pooled, num_register_tokens=2),
    "ijepa": _vit("IJepaConfig", "IJepaModel", "ViTImageProcessor", mean),
    "aimv2": _vit("Aimv2VisionConfig", "Aimv2VisionModel", "CLIPImageProcessor", pooled),
    "aimv2 without head": _vit(
        "Aimv2VisionConfig", "Aimv2VisionModel", "CLIPImageProcessor", mean, use_head=False
    ),
    "siglip vision": _vit("SiglipVisionConfig", "SiglipVisionModel", "SiglipImageProcessor", pooled),
    "clip vision": _vit("CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessor", pooled),
    "siglip": _dual("SiglipConfig", "SiglipModel", "SiglipImageProcessor"),
    "clip": _dual("CLIPConfig", "CLIPModel", "CLIPImageProcessor"),
    "siglip classifier": _dual("SiglipConfig", "SiglipForImageClassification", "SiglipImageProcessor"),
    "clip classifier": _dual("CLIPConfig", "CLIPForImageClassification", "CLIPImageProcessor"),
    "aimv2 dual": _dual("Aimv2Config", "Aimv2Model", "CLIPImageProcessor"),
    "chinese_clip": _dual("ChineseCLIPConfig", "ChineseCLIPModel", "ChineseCLIPImageProcessor"),
    "blip": _dual("BlipConfig", "BlipModel", "BlipImageProcessor"),
    "altclip": _dual("AltCLIPConfig", "AltCLIPModel", "CLIPImageProcessor"),
    "metaclip_2": _dual("MetaClip2Config", "MetaClip2Model", "CLIPImageProcessor"),
    "sam": Animal(
        "SamConfig",
        SAM,
        "SamModel",
        "SamImageProcessor",
        {"size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}},
        maps,
        "vision_encoder",
    ),
    "swin": Animal("SwinConfig", SWIN, "SwinModel", "ViTImageProcessor", SQUARE, pooled),
    "swinv2": Animal(
        "Swinv2Config", SWIN, "Swinv2ForImageClassification", "ViTImageProcessor", SQUARE, pooled
    ),
    "convnext": Animal(
        "ConvNextConfig",
        {**STAGES, "num_stages": 2, "patch_size": 2, "image_size": SIDE},
        "ConvNextModel",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 1.0, **COLOURS},
        pooled,
    ),
    "convnextv2": Animal(
        "ConvNextV2Config",
        {**STAGES, "num_stages": 2, "patch_size": 2, "image_size": SIDE},
        "ConvNextV2ForImageClassification",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 1.0},
        pooled,
    ),
    "resnet": Animal(
        "ResNetConfig",
        {**STAGES, "embedding_size": 8, "layer_type": "basic"},
        "ResNetForImageClassification",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 1.0, **COLOURS},
        pooled,
    ),
    "regnet": Animal(
        "RegNetConfig",
        {"hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 8, "groups_width": 8},
        "RegNetModel",
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": SIDE}, "crop_pct": 1.0},
        pooled,
    ),
    "mobilevit": Animal(
        "MobileViTConfig",
        {
            "image_size": 32,
            "hidden_sizes": [8, 8, 8],
            "neck_hidden_sizes": [4, 4, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
            "expand_ratio": 1.0,
        },
        "MobileViTForImageClassification",
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        pooled,
    ),
    "mobilenet_v2": Animal(
        "MobileNetV2Config",
        {"image_size": 32, "depth_multiplier": 0.1, "min_depth": 4},
        "MobileNetV2Model",
        "MobileNetV2ImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        pooled,
    ),
    "efficientnet": Animal(
        "EfficientNetConfig",
        {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
        "EfficientNetForImageClassification",
        "EfficientNetImageProcessor",
        {
            "size": {"height": 32, "width": 32},
            "rescale_offset": True,
            "include_top": True,
            "rescale_factor": 1 / 127.5,
            **COLOURS,
        },
        pooled,
    ),
    "poolformer": Animal(
        "PoolFormerConfig",
        {
            "hidden_sizes": [4, 8],
            "depths": [1, 1],
            "patch_sizes": [3, 3],
            "strides": [2, 2],
            "padding": [1, 1],
            "num_encoder_blocks": 2,
        },
        "PoolFormerModel",
        "PoolFormerImageProcessor",
        {**SQUARE, "crop_pct": 1.0, "crop_size": {"height": SIDE, "width": SIDE}},
        maps,
    ),
    "segformer": Animal(
        "SegformerConfig",
        {
            "hidden_sizes": [4, 8],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "sr_ratios": [2, 1],
            "patch_sizes": [3, 3],
            "strides": [2, 2],
            "num_encoder_blocks": 2,
            "mlp_ratios": [2, 2],
        },
        "SegformerModel",
        "SegformerImageProcessor",
        SQUARE,
        maps,
    ),
    "levit": Animal(
        "LevitConfig",
        {
            "image_size": 32,
            "hidden_sizes": [8, 12, 16],
            "num_attention_heads": [1, 1, 1],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
            "drop_path_rate": 0,
        },
        "LevitModel",
        "LevitImageProcessor",
        {
            "size": {"height": 32, "width": 32},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": False,
        },
        pooled,
    ),
    "yolos": _vit(
        "YolosConfig",
        "YolosModel",
        "ViTImageProcessor",
        pooled,
        image_size=[SIDE, SIDE],
        num_detection_tokens=5,
    ),
    "pvt_v2": Animal(
        "PvtV2Config",
        {
            "image_size": SIDE,
            "hidden_sizes": [4, 8],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "sr_ratios": [2, 1],
            "patch_sizes": [3, 3],
            "strides": [2, 2],
            "num_encoder_blocks": 2,
            "mlp_ratios": [2, 2],
        },
        "PvtV2Model",
        "PvtImageProcessor",
        SQUARE,
        maps,
    ),
    "hiera": Animal(
        "HieraConfig",
        {
            "embed_dim": 8,
            "image_size": [32, 32],
            "patch_size": [3, 3],
            "patch_stride": [2, 2],
            "patch_padding": [1, 1],
            "depths": [1, 1],
            "num_heads": [1, 2],
            "query_stride": [2, 2],
            "masked_unit_size": [4, 4],
            "num_query_pool": 1,
            "embed_dim_multiplier": 2.0,
        },
        "HieraModel",
        "ViTImageProcessor",
        {"size": {"height": 32, "width": 32}, **COLOURS},
        pooled,
    ),
}


def build(animal: Animal, folder: Path) -> tuple[Any, Any]:
    """Save the checkpoint; return the official model, whole, and its image processor, both loaded from there."""
    import transformers as t

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(t, animal.model)(getattr(t, animal.config)(**animal.settings)).eval()
        _wake(model)
        model.save_pretrained(folder)
    processor = getattr(t, animal.processor + "Pil")(**animal.fields)
    processor.save_pretrained(folder)
    return model, processor


@torch.no_grad()
def _wake(model: torch.nn.Module) -> None:
    """Weights large enough that every image gives features of its own, other statistics than 0 and 1."""
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.1, 0.5)
        elif value.is_floating_point() and value.ndim >= 2:
            value.normal_(0, value[0].numel() ** -0.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(0.2 * torch.randn_like(value))
