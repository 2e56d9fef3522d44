"""Verdicts on disk as they come: a file for each chunk, whole or absent, so that nothing done is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.engine.passes import Passes
from heirloom.evaluation.chunks import ChunkResult
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json, read_tensors, remove_leftovers, write_json, write_tensors
from heirloom.runtime.identity import open_marker

MARKER, LIMIT = "run.json", "at-once.json"
UNDER_WAY = ".under-way"  # folders of chunks that are not finished


class Store:
    """The chunks of one evaluation under ``folder``; with ``folder`` None nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def open(self, facts: dict[str, Any], *, resume: bool) -> None:
        """Start in a new folder, or, with ``resume``, check that what lies there is the same evaluation's.

        Verdicts may have taken days: those of another evaluation are never overwritten.
        """
        if self.folder is not None:
            open_marker(self.folder / MARKER, facts, resume=resume, place=self.folder)
            remove_leftovers(self.folder)
            for kept in self.folder.rglob(f"*{UNDER_WAY}"):
                if kept.with_suffix(".safetensors").exists():
                    shutil.rmtree(kept, ignore_errors=True)  # killed between the verdicts and this

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
            passes=Passes(**facts.get("passes", {})),
        )

    def write(self, stage: str, number: int, result: ChunkResult) -> None:
        path = self._path(stage, number)
        if path is None:
            return
        assert isinstance(result.x_adv, Tensor)
        tensors = {
            "index": result.index,
            "fooled": result.fooled.to(torch.uint8),
            "margin": result.margin,
            "x_adv": result.x_adv,
        }
        facts: dict[str, Any] = {
            "repaired": result.repaired,
            "batch": result.batch,
            "seconds": result.seconds,
        }
        facts["passes"] = asdict(result.passes)
        if distributed.are_in_step():  # all have the same
            if distributed.rank() == 0:
                write_tensors(path, tensors, {"facts": json.dumps(facts)})
            distributed.wait()
            return
        write_tensors(path, tensors, {"facts": json.dumps(facts)})
        shutil.rmtree(path.with_suffix(UNDER_WAY), ignore_errors=True)

    def under_way(self, stage: str, number: int) -> Path | None:
        """Where chunk ``number`` of ``stage`` keeps how far it is."""
        path = self._path(stage, number)
        return None if path is None else path.with_suffix(UNDER_WAY)

    def without_images(self, stage: str, number: int, result: ChunkResult) -> ChunkResult:
        """``result`` with the file of its adversarial images in their place, where there is one: nobody, and no other
        process, has to hold them.
        """
        path = self._path(stage, number)
        return result if path is None else replace(result, x_adv=path)

    def limit(self, found: int) -> int:
        """How many images go through the model at once: ``found``, or what the evaluation began with here."""
        if self.folder is None:
            return distributed.least(found)
        place = self.folder / LIMIT
        if distributed.rank() == 0 and not place.exists():
            write_json(place, {"at_once": found})
        distributed.wait()
        kept = read_json(place)
        holds = isinstance(kept, dict) and isinstance(kept.get("at_once"), int)
        require(holds, str(place), "how many images went through at once", "something else")
        return int(kept["at_once"])

    def _path(self, stage: str, number: int) -> Path | None:
        return None if self.folder is None else self.folder / stage / f"{number:05d}.safetensors"
