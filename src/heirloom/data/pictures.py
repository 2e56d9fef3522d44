"""The one reader of pictures, for training and for ``predict``; and images as data URIs.

A picture is turned as its EXIF note says, 16-bit grey keeps its greys, transparency is dropped as Transformers' own
``load_image`` drops it, of an animation the first frame counts. It is brought to its final size as soon as it is
decoded (JPEGs already while decoding), so that no photo is kept at full size.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from heirloom.runtime.errors import InputError, reject, require

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError)
Array = np.ndarray[Any, Any]
Picture = Path | str | bytes | Image.Image | Array


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded: (width, height) once turned upright; grey or colour."""

    size: tuple[int, int]
    is_grey: bool


def read_header(source: Path | str | bytes | Image.Image, name: str) -> Header:
    """The header of the picture ``name``; :class:`InputError` where it is missing or no picture."""
    with _opened(source, name) as file:
        width, height = file.size
        turned = _orientation(file) in SIDEWAYS
        return Header((height, width) if turned else (width, height), _is_grey(file))


def read_picture(
    source: Path | str | bytes | Image.Image, name: str, *, channels: int, side: int | None = None
) -> Array:
    """uint8 (C, H, W) of one picture.

    Args:
        source: a path, a file's content, or a PIL image. name: what errors call it.
        channels: 1 or 3. side: of the square: shorter side resized (bicubic), then cropped at the centre; None:
            as it is.

    Raises:
        InputError: a file that is missing, no picture, or cut off.
    """
    try:
        with _opened(source, name) as file:
            if side is not None and file.format == "JPEG":
                file.draft(None, (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(file) if _orientation(file) > 1 else file
            picture = _eight_bit(upright, name)
            picture = picture.convert("L" if channels == 1 else "RGB")
            if side is not None and picture.size != (side, side):
                picture = resized_and_cropped(picture, side)
            array = np.array(picture, dtype=np.uint8)
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise InputError("images", "readable images", f"{name}, which is not: {error}") from None
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def read_pictures(pictures: Picture | Sequence[Picture], shape: tuple[int, int, int]) -> Tensor:
    """float32 (N, C, H, W) in [0, 1] of files, PIL images or arrays, of the shape that a model takes.

    Args:
        pictures: paths, PIL images, files' bytes, arrays or tensors: uint8, or floating in [0, 1]; (H, W), (H, W, C) or
            (C, H, W). One path, PIL image or file's bytes is a batch of one.
        shape: (C, H, W) with H = W.

    Raises:
        InputError: none, a file that is missing or no picture, an array that is no image.
    """
    channels, height, width = shape
    require(height == width, "shape", "square", f"{height}x{width}")
    allowed = "pictures: files, PIL images or arrays"
    if isinstance(pictures, (Path, str, bytes, Image.Image)):
        pictures = [pictures]
    require(isinstance(pictures, (Sequence, np.ndarray)), "images", allowed, type(pictures).__name__)
    require(len(pictures) > 0, "images", f"at least one of {allowed}", "none")
    batch = []
    for number, picture in enumerate(pictures):
        name = str(picture) if isinstance(picture, (str, Path)) else f"number {number}"
        picture = picture.cpu().numpy() if isinstance(picture, Tensor) else picture
        known = isinstance(picture, (Path, str, bytes, Image.Image, np.ndarray))
        require(known, "images", allowed, f"{type(picture).__name__} ({name})")
        if isinstance(picture, np.ndarray):
            picture = _from_array(picture, name)
        batch.append(read_picture(picture, name, channels=channels, side=height))
    return torch.from_numpy(np.stack(batch)).float() / 255


def picture_files(places: Sequence[Path]) -> list[Path]:
    """Files as they are named, and the pictures inside folders, in the order of their names."""
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(f for f in place.rglob("*") if f.suffix.lower() in IMAGE_ENDINGS)
        require(bool(inside), "images", "files, or folders that hold some", f"{place}, which has none")
        found += inside
    return found


def resized_and_cropped(picture: Image.Image, side: int) -> Image.Image:
    """Shorter side to ``side`` pixels (bicubic), then the central square."""
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.resize((width, height), Image.Resampling.BICUBIC).crop(
        (left, top, left + side, top + side)
    )


def image_uri(pixels: Array) -> str:
    """One image (C, H, W) or (H, W) with values in [0, 1] as a PNG data URI."""
    array = np.clip(np.asarray(pixels, dtype=np.float64) * 255 + 0.5, 0, 255).astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _opened(source: Path | str | bytes | Image.Image, name: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return source.copy()
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError:
        raise InputError("images", "existing files", f"{name}, which does not exist") from None
    except UNREADABLE:
        raise InputError("images", "readable images", f"{name}, which is not") from None


def _orientation(file: Image.Image) -> int:
    """The EXIF note, 1 for none. A PNG's is read where it stands before the pixels: looking further decodes them."""
    if file.format == "PNG" and "exif" not in file.info:
        return 1
    try:
        return int(file.getexif().get(ORIENTATION) or 1)
    except (*UNREADABLE, TypeError):  # a damaged note
        return 1


def _is_grey(file: Image.Image) -> bool:
    return file.mode in GREY_MODES or file.mode.startswith("I;")


def _eight_bit(picture: Image.Image, name: str) -> Image.Image:
    """Sixteen bits and floating greys scaled to eight; palettes with transparency spelled out."""
    if picture.mode == "P":
        return picture.convert("RGBA")
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;"):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    if picture.mode == "F":
        top = 1.0 if values.max() <= 1 else 255.0
    else:
        top = 255.0 if picture.mode == "I" and values.max() <= 255 else 65535.0
    holds = bool(np.isfinite(values).all() and values.min() >= 0 and values.max() <= top)
    require(
        holds, "images", "of 8 or 16 bits, or from 0 to 1", f"{name}: {values.min():g} to {values.max():g}"
    )
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))


def _from_array(array: Array, name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    require(
        is_image and array.size > 0,
        "images",
        "of shape (H, W), (H, W, C) or (C, H, W)",
        f"{name}: {array.shape}",
    )
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype.kind != "f":
        reject("images", "uint8, or floating in [0, 1]", f"{name}: {array.dtype}")
    holds = bool(np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1)
    require(holds, "images", "uint8, or floating in [0, 1]", f"{name}: other values")
    return Image.fromarray(np.round(array * 255).astype(np.uint8))
