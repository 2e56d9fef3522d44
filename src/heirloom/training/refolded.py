"""The network that attacks inside training pass through: the same function as the one that learns, for less.

BatchNorm is folded into the convolutions before it, anew at every step; a compiled network computes no gradient of
its weights where only the images' is asked for.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.folding import Fold, checked


class Refolded:
    """``folding.folded`` for a model that is still learning: traced and checked once, folded again at every call.

    What is not folded is the model's own, so the copy has the weights of now; a model whose layers or tensors are
    others than at the last call is looked at anew. A compiled model's copy is compiled too, without a gradient for any
    weight, which a compiled backward pass would compute although attacks do not ask for it.
    """

    def __init__(self) -> None:
        self._parts: list[object] = []
        self._fold: Fold | None = None
        self._copy: nn.Module | None = None
        self._precision: torch.dtype | None = None

    def of(self, model: nn.Module, x: Tensor) -> nn.Module:
        """``model``, in eval mode, as it is now without the BatchNorm layers that fold; itself where none does."""
        tensors = [*model.parameters(), *model.buffers()]
        if any(hasattr(tensor, "full_tensor") for tensor in tensors):  # spread over processes by FSDP
            return model
        parts = [*model.modules(), *tensors, *(tensor.data_ptr() for tensor in tensors)]
        if len(parts) != len(self._parts) or not all(map(_same, parts, self._parts)):
            self._parts = parts
            self._fold, self._copy = _cheaper(model, x)
            self._precision = None if self._copy is None else _precision_within(model, x)
        if self._copy is None:
            return model
        if self._fold is not None:
            self._fold.refresh(self._copy, model)
        return self._copy if self._precision is None else _Autocast(self._copy, self._precision)


class _Autocast(nn.Module):
    """``model`` as Accelerate wraps one for mixed precision."""

    def __init__(self, model: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.precision):
            output: Tensor = self.model(x)
        return output


def _precision_within(model: nn.Module, x: Tensor) -> torch.dtype | None:
    """What the layers of ``model`` are cast to when it is called, None where they are not."""
    found: list[torch.dtype] = []

    def look(*_: object) -> None:
        kind = x.device.type
        found.extend([torch.get_autocast_dtype(kind)] if torch.is_autocast_enabled(kind) else [])

    kinds = nn.BatchNorm2d | nn.Conv2d | nn.Linear
    handles = [part.register_forward_pre_hook(look) for part in model.modules() if isinstance(part, kinds)]
    try:
        with torch.no_grad():
            model.forward(x[:1])  # as it is, not as compiled
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _same(a: object, b: object) -> bool:
    return a == b if isinstance(a, int) else a is b


def _cheaper(model: nn.Module, x: Tensor) -> tuple[Fold | None, nn.Module | None]:
    """(what folds in ``model``, a copy that shares its tensors), None each where there is none."""
    plain = copy.copy(model)
    vars(plain).pop("_compiled_call_impl", None)
    if hasattr(plain, "_original_forward"):  # Accelerate's, which casts round it
        vars(plain).pop("forward", None)
    traced = checked(plain, x)
    fold = None if traced is None else traced[0]
    if getattr(model, "_compiled_call_impl", None) is None:
        return fold, None if fold is None else fold.built(plain)
    found = _without_gradients(plain)
    found = found if fold is None else fold.built(found)
    found.compile()
    return fold, found


def _without_gradients(model: nn.Module) -> nn.Module:
    """A copy with the same storage, whose parameters ask for no gradient."""
    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()
    }
    return copy.deepcopy(model, shared | {id(buffer): buffer for buffer in model.buffers()})
