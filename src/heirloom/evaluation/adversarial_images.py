"""The adversarial images of an evaluation: those of the fooled are kept, where there is a folder on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from heirloom.data.unit_images import Images

CLEAN = -1


class AdversarialImages:
    """Each example's adversarial image (N, C, H, W): the first that fooled the model, else the clean one.

    Used as the tensor of all of them would be (``images[index]``, ``images.split(n)``); each is read or made when it
    is asked for.
    """

    def __init__(self, clean: Images) -> None:
        self.clean = clean
        self._part = torch.full((len(clean),), CLEAN)  # which of the parts holds an example, and in which row
        self._row = torch.zeros(len(clean), dtype=torch.long)
        self._parts: list[Tensor | Path] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.clean.shape)

    def __len__(self) -> int:
        return len(self.clean)

    def put(self, index: Tensor, images: Tensor | Path) -> None:
        """``images`` (K, C, H, W) of the examples ``index`` (K,), or the file of verdicts that holds them."""
        if len(index):
            self._part[index], self._row[index] = len(self._parts), torch.arange(len(index))
            self._parts.append(images)

    def __getitem__(self, index: Any) -> Tensor:
        """The images of a tensor of indices, a slice, a list, or a boolean tensor (N,)."""
        wanted = torch.arange(len(self))[index]
        found = self.clean[wanted].clone()
        parts, rows = self._part[wanted], self._row[wanted]
        for part in parts.unique().tolist():
            if part != CLEAN:
                places = (parts == part).nonzero().flatten()
                found[places] = _rows(self._parts[part], rows[places])
        return found

    def split(self, size: int) -> Iterator[Tensor]:
        """Batches of ``size`` images, in order."""
        return (self[index] for index in torch.arange(len(self)).split(size))


def _rows(part: Tensor | Path, rows: Tensor) -> Tensor:
    if isinstance(part, Tensor):
        return part[rows]
    with safe_open(part, framework="pt") as file:
        stored = file.get_slice("x_adv")
        return torch.stack([stored[row : row + 1][0] for row in rows.tolist()])
