"""What a checkpoint's image processor does to pixels, differentiably: every field is read or refused by name.

Resizing goes straight to the size that the model takes, without a centre crop: the attacker controls every
pixel. All colour steps (rescaling with its offset, one or two normalisations, channel order) are affine, so
they are kept as one mean and one standard deviation for each channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.models.resampling import RESAMPLING, Resampling, resample
from heirloom.runtime.errors import reject, require

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
READ = {
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "do_rescale",
    "rescale_factor",
    "rescale_offset",
    "do_normalize",
    "image_mean",
    "image_std",
    "include_top",
    "do_flip_channel_order",
    "do_pad",
    "pad_size",
    "size_divisor",
    "ensure_multiple_of",
    "patch_size",
    "max_num_patches",
}
# They say how files become arrays, or what happens to labels and outputs, and nothing of a pixel's value.
HARMLESS = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_processor_class",
    "auto_map",
    "do_convert_rgb",
    "default_to_square",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "model_input_names",
    "_valid_processor_keys",
    "do_reduce_labels",
    "reduce_labels",
    "mask_size",
    "mask_pad_size",
    "transformers_version",
    "_name_or_path",
    "format",
    "num_labels",
    "ignore_index",
    "do_convert_annotations",
    "return_segmentation_masks",
    "image_seq_length",
    "use_fast",
}
NEVER_NORMALISES = ("MobileViTImageProcessor", "MobileViTFeatureExtractor")  # whatever do_normalize says


@dataclass(frozen=True)
class ImageProcessing:
    """How [0, 1] pixels (N, C, H, W) become what a model takes: resized, then ``(x - mean) / std``, padded.

    Attributes:
        mean, std: per channel, in units of [0, 1] pixels.
        size: (height, width) that images are resized to; None: as they come.
        edge: of square ``size``: whether its side is that of the ``shortest`` or ``longest`` edge, the other
            one following the image's own shape; None: both sides are given.
        resampling: Pillow's filter. flips_channels: blue, green, red.
        pad_to: (height, width) filled up with zeros on the right and below after normalisation.
        multiple_of: height and width are rounded down to a multiple of it.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    edge: Literal["shortest", "longest"] | None = None
    resampling: Resampling = "bilinear"
    flips_channels: bool = False
    pad_to: tuple[int, int] | None = None
    multiple_of: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype) for v in (self.mean, self.std))
        return self.padded((self.resized(x) - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1))

    def resized(self, x: Tensor) -> Tensor:
        """The first step: size and channel order, still in [0, 1]."""
        target = self.target(x.shape[2], x.shape[3])
        if target != tuple(x.shape[2:]):
            x = resample(x, target, self.resampling)
        return x.flip(1) if self.flips_channels else x

    def padded(self, x: Tensor) -> Tensor:
        """The last step, after normalisation."""
        if self.pad_to is None:
            return x
        below, right = (max(0, wanted - side) for wanted, side in zip(self.pad_to, x.shape[2:], strict=True))
        return functional.pad(x, (0, right, 0, below))

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this shape is resized to."""
        if self.size is not None and self.edge is None:
            height, width = self.size
        elif self.size is not None:
            height, width = self._by_edge(height, width)
        return tuple(max(self.multiple_of, s // self.multiple_of * self.multiple_of) for s in (height, width))  # type: ignore[return-value]

    def _by_edge(self, height: int, width: int) -> tuple[int, int]:
        assert self.size is not None
        short, long = sorted((height, width))
        if self.edge == "longest":  # SamImageProcessor: rounded to the nearest
            scale = self.size[0] / long
            return int(height * scale + 0.5), int(width * scale + 0.5)
        other = int(self.size[0] * long / short)
        return (self.size[0], other) if height <= width else (other, self.size[0])

    def fields(self) -> dict[str, Any]:
        """The same as a ``preprocessor_config.json``, which :func:`interpret` reads back as it was."""
        name = {None: None, "shortest": "shortest_edge", "longest": "longest_edge"}[self.edge]
        size = None if self.size is None else {name: self.size[0]} if name else _sides(self.size)
        return {
            "do_resize": self.size is not None or self.multiple_of > 1,
            "size": size,
            "resample": RESAMPLING.index(self.resampling),
            "do_center_crop": False,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **({"do_flip_channel_order": True} if self.flips_channels else {}),
            **({"do_pad": True, "pad_size": _sides(self.pad_to)} if self.pad_to else {}),
            **({"size_divisor": self.multiple_of} if self.multiple_of > 1 else {}),
        }


def interpret(
    fields: dict[str, Any], *, normalisation: str = "auto", official: bool = False
) -> ImageProcessing:
    """The meaning of an image processor's fields.

    Args:
        fields: of ``preprocessor_config.json``.
        normalisation: ``auto``: the fields' own; else one of ``NORMALISATIONS`` in its place.
        official: the fields come from Transformers' own class, so that what is absent is off.

    Raises:
        InputError: a field that is not known here, or one without which nothing can be read, by its name.
    """
    _refuse_unknown(fields)
    mean, std = _colours(fields, normalisation, official)
    size, edge = _size(fields, official)
    pads = fields.get("pad_size") if fields.get("do_pad") else None
    return ImageProcessing(
        mean=mean,
        std=std,
        size=size,
        edge=edge,
        resampling=_resampling(fields.get("resample", 2)),
        flips_channels=bool(fields.get("do_flip_channel_order")),
        pad_to=_pair(pads) if pads else None,
        multiple_of=_multiple(fields),
    )


def _refuse_unknown(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if name not in READ | HARMLESS and value not in (None, False):
            reject(
                "preprocessor_config.json", f"of fields that can be read ({', '.join(sorted(READ))})", name
            )


def _colours(
    fields: dict[str, Any], normalisation: str, official: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation in [0, 1] units, rescaling and a second normalisation folded in."""
    if normalisation != "auto":
        return NORMALISATIONS[normalisation]
    rescales = fields.get("do_rescale", not official)
    factor = 255.0 * float(fields.get("rescale_factor", 1 / 255)) if rescales else 255.0
    offset = -1.0 if rescales and fields.get("rescale_offset") else 0.0
    kind = str(fields.get("image_processor_type", fields.get("feature_extractor_type", "")))
    mean, std = [0.0], [1.0]
    if fields.get("do_normalize", not official) and kind.removesuffix("Fast") not in NEVER_NORMALISES:
        mean, std = _constants(fields, "image_mean"), _constants(fields, "image_std")
    again = _constants(fields, "image_std") if fields.get("include_top") else [1.0]
    count = max(len(mean), len(std), len(again))
    mean, std, again = (v * count if len(v) == 1 else v for v in (mean, std, again))
    # ((x factor + offset) - mean) / std / again
    return (
        tuple((m - offset) / factor for m in mean),
        tuple(s * a / factor for s, a in zip(std, again, strict=True)),
    )


def _constants(fields: dict[str, Any], name: str) -> list[float]:
    value = fields.get(name)
    if value is None:
        reject("normalisation", f"given for an image processor without {name}", "auto")
    found = [float(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
    above = name == "image_mean" or all(v > 0 for v in found)
    require(bool(found) and all(abs(v) < 1e6 for v in found) and above, name, "finite numbers", value)
    return found


def _size(
    fields: dict[str, Any], official: bool
) -> tuple[tuple[int, int] | None, Literal["shortest", "longest"] | None]:
    crop = fields.get("crop_size") if fields.get("do_center_crop") else None
    if crop:
        return _pair(crop), None
    if fields.get("max_num_patches"):  # Siglip2ImageProcessor: as many patches as fit, here of a square image
        side = math.isqrt(int(fields["max_num_patches"])) * int(fields["patch_size"])
        return (side, side), None
    size = fields.get("size") if fields.get("do_resize", not official) else None
    if size is None:
        return None, None
    edges = [key for key in ("shortest_edge", "longest_edge") if isinstance(size, dict) and size.get(key)]
    if not edges:
        return _pair(size), None
    side = int(size[edges[0]])
    if "crop_pct" in fields:  # ConvNextImageProcessor: a centre crop below 384 pixels, squeezed from there on
        return (side, side), None
    return (side, side), "shortest" if edges[0] == "shortest_edge" else "longest"


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        if "height" in size and "width" in size:
            return int(size["height"]), int(size["width"])
        if set(size) == {"shortest_edge"}:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    elif isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    elif isinstance(size, int):
        return size, size
    reject("size in preprocessor_config.json", "height and width, or one edge", size)


def _resampling(value: Any) -> Resampling:
    index = int(value) if value is not None else 2
    require(0 <= index < len(RESAMPLING), "resample in preprocessor_config.json", "from 0 to 5", value)
    return RESAMPLING[index]


def _multiple(fields: dict[str, Any]) -> int:
    if not fields.get("do_resize", True):
        return 1
    return int(fields.get("size_divisor") or fields.get("ensure_multiple_of") or 1)


def _sides(pair: tuple[int, int]) -> dict[str, int]:
    return {"height": pair[0], "width": pair[1]}
