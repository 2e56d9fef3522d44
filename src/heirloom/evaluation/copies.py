"""Passes whose randomness is fixed, and what they change: what consistency is measured with."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import Loss
from heirloom.evaluation.chunks import seeded

Mode = Literal["no_grad", "grad", "input", "inference"]
ASKING = ("grad", "input")
INSIDE, MANY = 2, 64  # how deep into a container, and how many of what it holds


@contextmanager
def fixed(device: torch.device, seed: int = 0) -> Iterator[None]:
    """torch's, NumPy's and Python's global generators seeded, then put back."""
    numpy, python = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        with seeded(device, seed):
            yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)


def global_generators() -> tuple[bytes, int]:
    """Where NumPy's and Python's global generators are."""
    _, key, place, *_ = np.random.get_state(legacy=True)
    return np.asarray(key).tobytes() + bytes(str(place), "ascii"), hash(random.getstate())


def logits(model: nn.Module, x: Tensor, mode: Mode = "no_grad", seed: int = 0) -> Tensor:
    """Of ``x`` in one batch, in float32, with randomness fixed by ``seed``."""
    with (
        fixed(x.device, seed),
        torch.inference_mode(mode == "inference"),
        torch.set_grad_enabled(mode in ASKING),
    ):
        given = x.detach().clone()
        return model(given.requires_grad_() if mode == "input" else given).detach().float()


def change(one: Tensor, other: Tensor, spread: Tensor) -> Tensor:
    """The largest change of a logit (K,) in units of the logits' spread; a number against none is infinite."""
    same = (one == other) | (one.isnan() & other.isnan())
    difference = torch.where(same, torch.zeros_like(one), (one - other).abs()).nan_to_num(torch.inf)
    return difference.amax(1) / spread


def largest(values: Tensor) -> float:
    """The maximum, which a result file can hold: it knows no infinity."""
    return min(float(values.max()), 1e30)


def seeded_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """The loss's gradient (N, C, H, W), with randomness fixed."""
    with fixed(x.device):
        return input_gradient(model, x, y, loss)[0]


def apart(one: Tensor, other: Tensor) -> Tensor:
    """1 - cosine of the rows of two gradients (K, ...), whatever their size; 0 where both are zero."""
    a, b = (_unit(g.double().flatten(1)) for g in (one, other))
    neither = (a == 0).all(1) & (b == 0).all(1)
    return torch.where(neither, 0.0, 1 - (a * b).sum(1))


def _unit(rows: Tensor) -> Tensor:
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(1e-300)
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What of the state dict is a tensor, dequantised: quantised layers and extra state keep other things there."""
    held = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {name: value.dequantize() if value.is_quantized else value for name, value in held.items()}


def facts_of(model: nn.Module) -> dict[str, Any]:
    """What a module remembers beside its state dict: numbers, lengths of containers, tensors; by name."""
    known = {id(value) for value in model.state_dict(keep_vars=True).values()}
    found: dict[str, Any] = {}
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_modules"):
                continue
            if name == "_buffers":
                items = {f"{key} (a buffer)": kept for key, kept in value.items()}
            elif name.startswith("_") and name in vars(nn.Module()):
                continue
            else:
                items = {name: value}
            for key, kept in items.items():
                if id(kept) not in known:
                    found[f"{prefix}.{key}".lstrip(".")] = _size(kept)
    return found


def _size(value: Any, depth: int = INSIDE) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().dequantize() if value.is_quantized else value.detach()
        return ("tensor", tuple(value.shape), float(value.double().nan_to_num().sum()))
    if isinstance(value, (dict, list, set, tuple, deque)):
        held = list(value.values() if isinstance(value, dict) else value)[:MANY] if depth else []
        return (type(value).__name__, len(value), [_size(each, depth - 1) for each in held])
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def own_generators(model: nn.Module) -> bool:
    """Whether a module holds a generator of its own."""
    return any(is_generator(value) for module in model.modules() for value in vars(module).values())


def is_generator(value: object) -> bool:
    return isinstance(value, (torch.Generator, np.random.Generator, np.random.RandomState, random.Random))
