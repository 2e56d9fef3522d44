"""Where a long attack is, kept from time to time: one that is killed goes on from there.

The loops of the attacks run through :func:`repeat`, a plain loop unless a journal is open. Loops are known by their
order, which the seed decides; a loop that has ended is read and not run again, one that was under way goes on at its
last record. Records hold the state of the loop, of the generators, and the passes so far, so that the attack ends
with the same images, draws and counts as one that was never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from heirloom.attacks.engine.passes import Counted, Passes
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.randomness import seed_of

State = TypeVar("State")
WAIT = 1.0  # seconds from one record to the next, at the least
SHARE = 20  # and so many times what writing the last one took: a twentieth of the time at most


def repeat(state: State, step: Callable[[State], bool]) -> State:
    """Call ``step(state)`` until it is False, or go on with what the open journal has of this loop.

    Args:
        state: a dataclass of tensors, numbers and such dataclasses, which ``step`` changes; all that ``step``
            needs beside what is there again when the attack is called again. It is changed in place.
    """
    journal = _OPEN.get()
    if journal is None:
        while step(state):
            pass
        return state
    token = _OPEN.set(None)  # a model may run attacks of its own: they are part of this step
    try:
        journal.repeat(state, step)
    finally:
        _OPEN.reset(token)
    return state


class Journal:
    """The records of one chunk under ``folder`` (None: none are kept).

    ``chunk`` is what tells it from others that may have been there; ``earlier`` are the seconds of stopped runs.
    """

    def __init__(self, folder: Path | None, chunk: object = None) -> None:
        self.folder, self.chunk, self.earlier = folder, chunk, 0.0
        self._pending: dict[Path, tuple[dict[str, Tensor], dict[str, str]]] = {}
        self._began = self._written = time.monotonic()
        self._cost = 0.0

    @contextmanager
    def of(self, key: object, counted: Counted, generator: torch.Generator) -> Iterator[None]:
        """Keep the loops inside; ``key`` tells this attack from others of the chunk."""
        if self.folder is None:
            yield
            return
        self._place = self.folder / f"{seed_of(key, self.chunk, generator.device.type):016x}"
        self._loop, self._counted, self._generator = 0, counted, generator
        token = _OPEN.set(self)
        try:
            yield
        finally:
            _OPEN.reset(token)

    def repeat(self, state: Any, step: Callable[[Any], bool]) -> None:
        path = self._place / f"{self._loop:05d}.safetensors"
        self._loop += 1
        ended = self._read(path, state)
        while not ended:
            ended = not step(state)
            due = time.monotonic() - self._written > max(WAIT, SHARE * self._cost)
            if ended or due:
                self._pending[path] = self._record(state, ended)
            if due:
                self._write()

    def _record(self, state: Any, ended: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for name, _, _, value in _leaves(state):
            if isinstance(value, Tensor):
                tensors[f"state.{name}"] = value.detach().to("cpu", copy=True)
            else:
                numbers[name] = value
        tensors |= {f"drawn.{name}": state for name, state in self._drawn().items()}
        known = {
            "ended": ended,
            "numbers": numbers,
            "passes": asdict(self._counted.passes),
            "seconds": self.earlier + time.monotonic() - self._began,
        }
        return tensors, {"known": json.dumps(known)}

    def _write(self) -> None:
        started = time.monotonic()
        for path, (tensors, metadata) in self._pending.items():
            write_tensors(path, tensors, metadata)
        self._pending.clear()
        self._written = time.monotonic()
        self._cost = self._written - started

    def _read(self, path: Path, state: Any) -> bool:
        """Put the record at ``path`` into ``state``; whether the loop had ended. False where there is none."""
        try:
            tensors, metadata = read_tensors(path)
            known = json.loads(metadata["known"])
            found = [
                (owner, field, _like(value, tensors, known["numbers"], name))
                for name, owner, field, value in _leaves(state)
            ]
            drawn = {name: tensors[f"drawn.{name}"] for name in self._drawn()}
        except (InputError, KeyError, ValueError):
            return False  # none, or damaged: this loop runs again
        for owner, field, value in found:
            setattr(owner, field, value)
        self._generator.set_state(drawn["generator"])
        torch.set_rng_state(drawn["cpu"])
        if "cuda" in drawn:
            torch.cuda.set_rng_state(drawn["cuda"], self._generator.device)
        self._counted.passes = Passes(**known["passes"])
        self.earlier = max(self.earlier, known["seconds"])
        return bool(known["ended"])

    def _drawn(self) -> dict[str, Tensor]:
        """The states of all that is drawn from: the attack's generator, and what a random model draws from."""
        states = {"generator": self._generator.get_state(), "cpu": torch.get_rng_state()}
        if self._generator.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._generator.device)
        return states


def _leaves(state: Any, prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """(name, the dataclass it is in, field, value) of all tensors and numbers."""
    for field in fields(state):
        value = getattr(state, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", state, field.name, value


def _like(value: Any, tensors: dict[str, Tensor], numbers: dict[str, Any], name: str) -> Any:
    return tensors[f"state.{name}"].to(value.device) if isinstance(value, Tensor) else numbers[name]


_OPEN: ContextVar[Journal | None] = ContextVar("journal", default=None)
