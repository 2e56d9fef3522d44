"""Copies of a model that share nothing: not even globals, class attributes, closures and cached functions.

``copy.deepcopy`` takes functions and classes as they are, so what they refer to is one thing for all copies: a cache
in a module-level dictionary, a counter in a closure, ``functools.lru_cache``. Here a copy knows what those variables
were when it was taken, and what has changed since can be given to each copy anew (:func:`separate`).
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from heirloom.evaluation.copies import logits
from heirloom.evaluation.fingerprint import fingerprint, parts, size_of
from heirloom.evaluation.reached import ABSENT, LRU, Slots, reached

DEPTH, MOST_PARTS, MOST_VALUES = 4, 200, 2000  # how far connections and files are looked for
MOST_BYTES = 2**28  # what holds more is shared on: a data set, a large network


@dataclass(frozen=True)
class Taken:
    """What a model's code reaches outside its modules, and deep copies of the values when it was copied."""

    slots: Slots
    values: dict[str, Any]
    cached: Sequence[LRU[Any]]


_TAKEN: WeakKeyDictionary[nn.Module, Taken] = WeakKeyDictionary()
REFUSED = (RuntimeError, TypeError, NotImplementedError, AttributeError, AssertionError, copy.Error)


def fresh_copy(model: nn.Module) -> nn.Module | None:
    """An independent copy, None where the model cannot be copied; taken before any call it knows of none.

    Variables outside the modules are shared on, but the copy remembers what they are now (:func:`separate`). So is what
    a module holds that cannot be copied, or must not be: a lock, a generator, a connection, a file.
    """
    if any(getattr(module, "is_sharded", False) for module in model.modules()):
        return None  # torch frees its weights' memory between passes: to copy around them reads what is not there
    earlier = _TAKEN.get(model)
    slots, cached = reached(model) if earlier is None else (earlier.slots, earlier.cached)
    memo = _renewed(cached) | _handles([*map(vars, model.modules()), *read(slots).values()])
    try:
        copied = _deep_copy(model, memo)
    except REFUSED:
        return None
    if earlier is None:
        values = _copied(read(slots), memo)
        _TAKEN[copied] = Taken(slots, values, [memo[id(each)] for each in cached])
    return copied


@contextmanager
def on_a_copy(model: nn.Module) -> Iterator[nn.Module | None]:
    """A copy to call, None where there is none; what its calls change outside the modules is put back afterwards.

    So that trying a model out leaves nothing behind: a counter in a global would have had its first calls.
    """
    copied = fresh_copy(model)
    try:
        yield copied
    finally:
        if copied is not None:
            _put_back(copied)


def _put_back(copied: nn.Module) -> None:
    # a cached function stays the one that it is: other modules may have imported it
    slots = {name: slot for name, slot in moved(copied).items() if not isinstance(slot.get(), LRU)}
    values = _TAKEN[copied].values if slots else {}
    _write({name: slot for name, slot in slots.items() if values[name] is not ABSENT}, values)


def copy_or_itself(model: nn.Module) -> nn.Module:
    """:func:`fresh_copy`, or the model itself where it cannot be copied. (A compiled one has no truth value.)"""
    copied = fresh_copy(model)
    return model if copied is None else copied


def _deep_copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(model, dict(memo))
    except REFUSED:
        memo |= _stubborn(model, memo, set())
        return copy.deepcopy(model, memo)


def _handles(values: Sequence[Any]) -> dict[int, Any]:
    """For the memo: connections, sockets and files, as themselves. A copy of one closes it when the copy goes."""
    found: dict[int, Any] = {}
    left, seen = [(value, DEPTH) for value in values], set[int]()
    while left and len(seen) < MOST_VALUES:
        value, depth = left.pop()
        if id(value) in seen or isinstance(value, (Tensor, nn.Module, type)):
            continue
        seen.add(id(value))
        if callable(getattr(type(value), "fileno", None)):
            found[id(value)] = value
        elif depth:
            left += [(part, depth - 1) for part in parts(value)[:MOST_PARTS]]
    return found


def connections(model: nn.Module) -> list[str]:
    """The types of the connections, sockets and files that the modules hold."""
    return [type(held).__name__ for held in _handles([*map(vars, model.modules())]).values()]


def _stubborn(value: Any, memo: dict[int, Any], seen: set[int]) -> dict[int, Any]:
    """For the memo of ``copy.deepcopy``: what of ``value`` refuses to be copied, as itself; results, detached."""
    if id(value) in seen or id(value) in memo:
        return {}
    seen.add(id(value))
    if isinstance(value, Tensor) and not value.is_leaf:
        return {id(value): value.detach().clone()}
    whole = isinstance(value, nn.Module)
    if not whole:
        try:
            copy.deepcopy(value, dict(memo))
            return {}
        except REFUSED:
            pass
    found: dict[int, Any] = {}
    for part in parts(value):
        found |= _stubborn(part, memo | found, seen)
    return found if found or whole else {id(value): value}


def taken_as(pristine: nn.Module, whole: nn.Module) -> nn.Module:
    """``whole``, which holds ``pristine``, with what is known of the moment at which that was taken."""
    if pristine in _TAKEN:
        _TAKEN[whole] = _TAKEN[pristine]
    return whole


def moved(pristine: nn.Module) -> Slots:
    """Variables outside the modules that are not what they were when :func:`fresh_copy` took ``pristine``."""
    taken = _TAKEN.get(pristine)
    if taken is None:
        return {}
    before = taken.values
    for name, slot in reached(pristine)[0].items():
        if name not in taken.slots:  # made by a call
            taken.slots[name], before[name] = slot, ABSENT
    return {
        name: slot
        for name, slot in taken.slots.items()
        if name in before and fingerprint(slot.get()) != fingerprint(before[name])
    }


def noticed(pristine: nn.Module, x: Tensor) -> Slots:
    """:func:`moved` by two passes of ``x``. Variables that a call made begin without a value in each copy, or with what
    they hold now where the model cannot do without.
    """
    taken = _TAKEN.get(pristine)
    for mode in ("input", "no_grad"):
        logits(separate(pristine, {}), x, mode)
    if taken is None:
        return {}
    try:
        logits(separate(pristine, moved(pristine)), x)
    except (*REFUSED, NameError, LookupError, OSError, ValueError):
        made = [name for name in taken.values if taken.values[name] is ABSENT]
        taken.values.update(_copied({name: taken.slots[name].get() for name in made}, {}))
    return moved(pristine)


def separate(pristine: nn.Module, slots: Slots) -> nn.Module:
    """A copy of ``pristine`` for which ``slots`` are what they were when that was taken, whatever others do to them."""
    if not slots:
        return copy_or_itself(pristine)
    taken = _TAKEN[pristine]
    memo = _renewed(taken.cached) | _handles([*map(vars, pristine.modules()), *taken.values.values()])
    copied = _deep_copy(pristine, memo)
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
            if size_of(value) <= MOST_BYTES and not isinstance(value, logging.Logger):
                kept[name] = copy.deepcopy(value, memo)
        except Exception:  # a lock, a file, a handle: each says in its own way that it cannot be copied
            continue
    return kept
