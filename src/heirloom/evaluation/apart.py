"""Copies of a model that share nothing: not even globals, class attributes, closures and cached functions.

``copy.deepcopy`` takes functions and classes as they are, so what they refer to is one thing for all copies: a cache
in a module-level dictionary, a counter in a closure, ``functools.lru_cache``. Here a copy knows what those variables
were when it was taken, and what has changed since can be given to each copy anew (:func:`separate`).
"""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.evaluation.reached import LRU, Slots, reached

MOST_BYTES = 2**28  # what holds more is shared on: a data set, a large network
DEEP, MANY = 3, 256  # how far into a value its fingerprint looks
FEW_MISSES = 8  # of a cached function: tables of constants are made once or twice, answers for each image


@dataclass(frozen=True)
class Taken:
    """What a model's code reaches outside its modules, and deep copies of the values when the model was copied."""

    slots: Slots
    values: dict[str, Any]
    cached: Sequence[LRU[Any]]


_TAKEN: WeakKeyDictionary[nn.Module, Taken] = WeakKeyDictionary()
REFUSED = (RuntimeError, TypeError, NotImplementedError, AttributeError, AssertionError)


def fresh_copy(model: nn.Module) -> nn.Module | None:
    """An independent copy, None where the model cannot be copied; taken before any call it knows of none.

    Variables outside the modules are shared on, but the copy remembers what they are now (:func:`separate`).
    """
    earlier = _TAKEN.get(model)
    slots, cached = reached(model) if earlier is None else (earlier.slots, earlier.cached)
    memo = _renewed(cached)
    try:
        copied = copy.deepcopy(model, memo)
    except REFUSED:
        return None
    if earlier is None:
        _TAKEN[copied] = Taken(slots, _copied(read(slots), memo), [memo[id(each)] for each in cached])
    return copied


def moved(pristine: nn.Module) -> Slots:
    """Variables outside the modules that are not what they were when :func:`fresh_copy` took ``pristine``."""
    taken = _TAKEN.get(pristine)
    if taken is None:
        return {}
    before = taken.values
    return {
        name: slot
        for name, slot in taken.slots.items()
        if name in before and _fingerprint(slot.get()) != _fingerprint(before[name])
    }


def separate(pristine: nn.Module, slots: Slots) -> nn.Module:
    """A copy of ``pristine`` for which ``slots`` are what they were when that was taken, whatever others do to them."""
    if not slots:
        return fresh_copy(pristine) or pristine
    taken = _TAKEN[pristine]
    memo = _renewed(taken.cached)
    copied = copy.deepcopy(pristine, memo)
    return Apart(copied, slots, _copied({name: taken.values[name] for name in slots}, memo))


class Apart(nn.Module):
    """``model`` with ``values`` of its own in ``slots``, in place of those that all copies share."""

    def __init__(self, model: nn.Module, slots: Slots, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self._slots, self._own = model, slots, dict(values)
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        shared = read(self._slots)
        _write(self._slots, self._own)
        try:
            return self.model(x)
        finally:
            self._own = read(self._slots)
            _write(self._slots, shared)


def read(slots: Slots) -> dict[str, Any]:
    return {name: slot.get() for name, slot in slots.items()}


def _write(slots: Slots, values: Mapping[str, Any]) -> None:
    for name, slot in slots.items():
        slot.set(values[name])


def _renewed(cached: Sequence[LRU[Any]]) -> dict[int, Any]:
    """A memo for ``copy.deepcopy`` that gives each cached function an empty cache."""
    return {id(each): functools.lru_cache(**each.cache_parameters())(each.__wrapped__) for each in cached}


def _copied(values: Mapping[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """Deep copies by name; what cannot be copied or holds more than :data:`MOST_BYTES` is left out."""
    kept = {}
    for name, value in values.items():
        try:
            if _bytes(value) <= MOST_BYTES and not isinstance(value, logging.Logger):
                kept[name] = copy.deepcopy(value, memo)
        except Exception:  # a lock, a file, a handle: each says in its own way that it cannot be copied
            continue
    return kept


def _bytes(value: Any, depth: int = DEEP) -> int:
    if isinstance(value, (Tensor, np.ndarray)):
        return int(value.nbytes)
    if isinstance(value, nn.Module):
        return sum(one.nbytes for one in value.state_dict().values() if isinstance(one, Tensor))
    return sum(_bytes(one, depth - 1) for one in _parts(value)) if depth else 0


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())


def _fingerprint(value: Any, depth: int = DEEP) -> Any:
    """What tells two states of a value apart."""
    if isinstance(value, (int, float, str, bytes, bool, type(None))):
        return value
    if isinstance(value, Tensor):
        return tuple(value.shape), float(value.detach().double().nan_to_num().sum())
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes() if value.nbytes < 2**20 else float(np.nansum(value))
    if isinstance(value, LRU):
        return value.cache_info().misses > FEW_MISSES
    if isinstance(value, itertools.count):
        return repr(value)
    if (state := _drawn(value)) is not None:
        return state
    if isinstance(value, nn.Module):
        found = {k: v for k, v in value.state_dict().items() if isinstance(v, Tensor)}
        return {name: _fingerprint(one) for name, one in found.items()}
    parts = _parts(value)
    inside = [_fingerprint(one, depth - 1) for one in parts[:MANY]] if depth else []
    return type(value).__name__, len(parts), inside


def _drawn(value: Any) -> Any:
    """Where a generator of random numbers is."""
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    return hash(value.getstate()) if isinstance(value, random.Random) else None
