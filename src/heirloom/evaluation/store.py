"""Verdicts on disk as they come: a file for each chunk, whole or absent, so that nothing done is lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.evaluation.chunks import ChunkResult
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_json, read_tensors, write_json, write_tensors

IDENTITY = "identity.json"


class Store:
    """The chunks of one evaluation under ``folder``; with ``folder`` None nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def open(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Start in a new folder, or, with ``resume``, check that what lies there is the same evaluation's.

        Verdicts may have taken days: those of another evaluation are never overwritten.
        """
        if self.folder is None:
            return
        place = self.folder / IDENTITY
        if resume and place.exists():
            stored = read_json(place)
            differ = [name for name in identity if stored.get(name) != identity[name]]
            if differ:
                raise InputError("resume", f"of the run in {self.folder}", f"another {', '.join(differ)}")
            return
        if place.exists():
            raise InputError(
                "out",
                "a new folder, where resume is not asked for",
                f"{self.folder}, which holds an evaluation",
            )
        write_json(place, identity)

    def read(self, stage: str, number: int, index: Tensor) -> ChunkResult | None:
        """The stored result of chunk ``number`` of ``stage``, None where there is none for ``index``."""
        path = self._path(stage, number)
        if path is None or not path.exists():
            return None
        try:
            tensors, metadata = read_tensors(path)
            facts = json.loads(metadata["facts"])
        except (InputError, KeyError, ValueError):
            return None  # damaged: measured again
        if not torch.equal(tensors["index"], index):
            return None
        return ChunkResult(
            index=index,
            fooled=tensors["fooled"].bool(),
            margin=tensors["margin"],
            x_adv=tensors["x_adv"],
            repaired=int(facts["repaired"]),
            batch=int(facts["batch"]),
            seconds=float(facts["seconds"]),
        )

    def write(self, stage: str, number: int, result: ChunkResult) -> None:
        path = self._path(stage, number)
        if path is None:
            return
        tensors = {
            "index": result.index,
            "fooled": result.fooled.to(torch.uint8),
            "margin": result.margin,
            "x_adv": result.x_adv,
        }
        facts = {"repaired": result.repaired, "batch": result.batch, "seconds": result.seconds}
        write_tensors(path, tensors, {"facts": json.dumps(facts)})

    def _path(self, stage: str, number: int) -> Path | None:
        return None if self.folder is None else self.folder / stage / f"{number:05d}.safetensors"


def digest(*tensors: Tensor) -> str:
    """A digest of the tensors' shapes, types and bytes."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def model_digest(model: nn.Module) -> str:
    """A digest of the model's class, weights and buffers."""
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    named = hashlib.sha256(repr((type(model).__qualname__, list(state))).encode()).hexdigest()[:32]
    return f"{named}-{digest(*state.values())}"
