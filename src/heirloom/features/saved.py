"""A built data set as a folder that ``datasets.load_dataset`` reads: parquet of lossless PNGs, and a card."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heirloom.features.pairing import Pairing
from heirloom.features.steps import Built
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import write_bytes

SHARD = 25_000  # images a file
BUILT = "a data set that heirloom features build made"
MEASURES = ("relative_error", "start_error", "distance")


@dataclass(frozen=True)
class SavedSplit:
    """One split as it was read back: pixels (N, C, H, W) uint8, and the columns, each (N,)."""

    pixels: Tensor
    columns: dict[str, Tensor]


def write_split(
    folder: Path, split: str, built: Built, pairing: Pairing, labels: Tensor, classes: tuple[str, ...]
) -> None:
    """``folder/data/<split>-00000-of-0000n.parquet``; every file is whole or absent.

    Columns: ``image``, ``label`` (class names), ``original`` and ``start`` (indices of the split that was read, -1:
    noise or grey), ``start_label`` (class index, or -1), and the measures of :class:`Built`.
    """
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(classes)),
            **{name: datasets.Value("int64") for name in ("original", "start", "start_label")},
            **{name: datasets.Value("float32") for name in MEASURES},
        }
    )
    start_label = torch.where(pairing.start < 0, -1, labels[pairing.start])
    shards = -(-len(pairing) // SHARD)
    for shard in range(shards):
        rows = slice(shard * SHARD, (shard + 1) * SHARD)
        columns = {
            "image": [{"bytes": png(picture), "path": None} for picture in built.pixels[rows].numpy()],
            **{name: getattr(pairing, name)[rows].tolist() for name in ("label", "original", "start")},
            "start_label": start_label[rows].tolist(),
            **{name: getattr(built, name)[rows].tolist() for name in MEASURES},
        }
        buffer = io.BytesIO()
        datasets.Dataset.from_dict(columns, features=features).to_parquet(buffer)
        write_bytes(folder / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet", buffer.getvalue())


def read_split(folder: Path, split: str) -> SavedSplit:
    """What :func:`write_split` wrote; :class:`heirloom.InputError` where ``folder`` holds no such data set."""
    import pyarrow.parquet

    files = sorted((folder / "data").glob(f"{split}-*.parquet"))
    if not files:
        raise InputError("folder", BUILT, f"{folder}, which has no {split} images")
    try:
        table = pyarrow.parquet.read_table(files)
        pictures = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in table["image"].to_pylist()]
        names = ("label", "original", "start", "start_label", *MEASURES)
        columns = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in names}
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError("folder", BUILT, f"{folder}: {reason}") from None
    pixels = np.stack([p[None] if p.ndim == 2 else p.transpose(2, 0, 1) for p in pictures])
    return SavedSplit(torch.from_numpy(pixels.copy()), columns)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """One image (C, H, W) uint8, 1 or 3 channels, as a PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, format="PNG")
    return buffer.getvalue()
