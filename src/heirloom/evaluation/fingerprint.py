"""What tells two states of a variable apart, whatever its type."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.evaluation.reached import ABSENT, LRU

DEEP, MANY = 3, 256  # how far into a value its fingerprint looks
FEW_MISSES = 8  # of a cached function: tables of constants are made once or twice, answers for each image


def size_of(value: Any, depth: int = DEEP) -> int:
    """Bytes of the tensors and arrays in ``value``."""
    if isinstance(value, (Tensor, np.ndarray)):
        return int(value.nbytes)
    if isinstance(value, nn.Module):
        return sum(one.nbytes for one in value.state_dict().values() if isinstance(one, Tensor))
    return sum(size_of(one, depth - 1) for one in parts(value)) if depth else 0


def parts(value: Any) -> list[Any]:
    """What ``value`` holds: the items of a container, the attributes of anything else."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())


def fingerprint(value: Any, depth: int = DEEP) -> Any:
    """What tells two states of a value apart."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"  # which is not equal to itself
    if value is ABSENT or isinstance(value, (int, float, str, bytes, bool, type(None))):
        return value
    if isinstance(value, (set, frozenset)):  # whose copy may be in another order
        inside = sorted(repr(fingerprint(one, depth - 1)) for one in value) if depth else []
        return type(value).__name__, len(value), inside[:MANY]
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
        return {name: fingerprint(one) for name, one in found.items()}
    held = parts(value)
    inside = [fingerprint(one, depth - 1) for one in held[:MANY]] if depth else []
    return type(value).__name__, len(held), inside


def _drawn(value: Any) -> Any:
    """Where a generator of random numbers is."""
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    return hash(value.getstate()) if isinstance(value, random.Random) else None
