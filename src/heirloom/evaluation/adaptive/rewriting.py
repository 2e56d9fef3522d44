"""A model with its forward values and another backward pass: BPDA, operation by operation.

Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018, section 4.1: where an
operation has no useful gradient, take that of a differentiable one nearby. Here the operations are met while the model
runs, so nothing of the model needs to be known: rounding passes the gradient straight through, a detached value stays
attached, a saturated activation is a straight line, numbers lost in the backward pass count as zero there and not
everywhere before it. What leaves torch (NumPy, PIL) is out of reach: name such a part with ``--bpda``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

STRAIGHT = {"round", "floor", "ceil", "trunc", "sign", "sgn", "round_", "floor_", "ceil_", "fix"}
SATURATING = {"sigmoid", "tanh", "hardtanh", "hardsigmoid", "clamp", "softmax", "log_softmax"}
COMPARING = {"gt", "ge", "lt", "le", "__gt__", "__ge__", "__lt__", "__le__"}
INTEGER = COMPARING | {"int", "long", "byte", "short", "bool", "argmax"}
Inner = Literal["as it is", "blinded", "unrolled"]


class Rewritten(nn.Module):
    """``model``'s values; the gradient passes where the model's own does not.

    Args:
        saturated: activations at their limits pass the gradient as a straight line.
        inner: gradients that the forward pass computes itself: left ``as it is``, all zero (``blinded``: what is
            attacked is the model without its inner optimisation), or differentiated through (``unrolled``).
    """

    def __init__(self, model: nn.Module, *, saturated: bool = False, inner: Inner = "as it is") -> None:
        super().__init__()
        self.model, self.saturated, self.inner = model, saturated, inner
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        with _identity_backward(), _Rewriting(self.saturated, self.inner):
            return self.model(x)


class _Rewriting(TorchFunctionMode):
    def __init__(self, saturated: bool, inner: Inner) -> None:
        super().__init__()
        self.saturated, self.optimised = saturated, inner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name(func)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name in ("detach", "data", "detach_") and self.optimised != "blinded" and first is not None:
            return first if not first.is_leaf else func(*args, **kwargs)
        if name == "_set_grad_enabled" and args and not args[0] and self.optimised != "blinded":
            return None
        if name in ("grad", "backward") and self.optimised != "as it is":
            return self._inner(name, func, args, kwargs)
        return self._value(name, first, func(*args, **kwargs))

    def _inner(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.optimised == "unrolled":
            return func(*args, **(kwargs | {"create_graph": True}))
        if name == "backward":
            return None
        inputs: Any = kwargs.get("inputs", args[1] if len(args) > 1 else None)
        several = isinstance(inputs, (tuple, list))
        return tuple(torch.zeros_like(value) for value in (inputs if several else [inputs]))

    def _value(self, name: str, first: Tensor | None, out: Any) -> Any:
        if not isinstance(out, Tensor) or first is None:
            return out
        if name in STRAIGHT or (self.saturated and name in SATURATING):
            return _straight(out, first)
        if name in INTEGER or (name == "to" and not out.is_floating_point()):
            out.made_from = getattr(first, "made_from", first)  # type: ignore[attr-defined]
        elif (
            hasattr(first, "made_from")
            and out.is_floating_point()
            and name in ("float", "to", "type", "double")
        ):
            return _straight(out, first.made_from)
        elif name == "one_hot" and hasattr(first, "made_from"):
            soft = functional.softmax(first.made_from, -1)
            return out + (soft - soft.detach()) if soft.shape == out.shape else out
        if out.requires_grad and not out.is_leaf and out.is_floating_point():
            out.register_hook(torch.nan_to_num)
        return out


def _name(func: Any) -> str:
    name = str(getattr(func, "__name__", ""))
    return str(getattr(getattr(func, "__self__", None), "__name__", "")) if name == "__get__" else name


def _straight(out: Tensor, source: Tensor) -> Tensor:
    """The value of ``out`` with the gradient of ``source``."""
    with torch.enable_grad():
        if source.shape != out.shape or not source.is_floating_point():
            return out
        return out.detach() + (source - source.detach())


@contextmanager
def _identity_backward() -> Iterator[None]:
    """Custom autograd functions of one tensor to one like it pass the gradient as it comes."""
    kept = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        out = kept.__func__(cls, *args, **kwargs)
        tensors = [value for value in args if isinstance(value, Tensor)]
        with torch._C.DisableTorchFunction():  # its own detach is meant
            return _straight(out, tensors[0]) if len(tensors) == 1 and isinstance(out, Tensor) else out

    setattr(torch.autograd.Function, "apply", classmethod(apply))  # noqa: B010 (a class of torch's)
    try:
        yield
    finally:
        setattr(torch.autograd.Function, "apply", kept)  # noqa: B010
