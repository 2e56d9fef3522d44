"""What a forward pass does: which operations, what randomness, which values. It names causes; it is no verdict."""

from __future__ import annotations

import gc
import importlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from heirloom.evaluation.copies import global_generators
from heirloom.evaluation.eval_mode import is_training

ROUNDING = (
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "sgn",
    "heaviside",
    "bucketize",
    "searchsorted",
    "to integers",
    "fake_quantize_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "quantize_per_tensor",
    "quantize_per_channel",
    "kernels of integers",
)
LEVELS = tuple(name for name in ROUNDING if name not in ("sign", "sgn"))  # a sign is a step's, too
CHOOSING = ("argmax", "argmin", "topk", "sort", "one_hot", "kthvalue", "mode", "bincount")
DECIDING = ("argmax", "argmin", "one_hot", "mode", "bincount")
COMPARING = ("gt", "ge", "lt", "le")
LEAVING = ("detach", "data", "no_grad", "inference_mode", "numpy", "tolist", "item", "__array__", "NumPy")
DIFFERENTIATING = (torch.autograd.grad, torch.autograd.backward, torch.autograd.forward_ad.make_dual)
HOOKING = ("register_hook", "BackwardHookFunction")  # torch's own, of a module
SATURATING = ("sigmoid", "tanh", "softmax", "_softmax", "hardtanh", "clamp", "hardsigmoid", "erf")
NO_PART = ("logging", "threading", "asyncio", "weakref", "torch")  # they read the clock for themselves
IMPORTING = importlib._bootstrap._find_and_load.__code__  # type: ignore[attr-defined]
AT_LIMIT = 1e-4  # so near its limit an activation's slope is a ten thousandth
MOST = 0.6  # of an activation's outputs
MERGED = (
    *("functions", "operations", "random", "halves", "overflow", "custom", "saturated"),
    *("drawing", "out_of_reach"),
)
OWN = ("its own generator", "NumPy", "Python's random", "the operating system")  # torch's seed fixes none


@dataclass
class Trace:
    """What was seen.

    Attributes:
        functions: torch functions called by the model, once each, in order: ``detach``, ``numpy``...
        operations: what they came down to (aten's names), once each, in order.
        random: sources of randomness.
        gradient_calls: calls of torch's gradient functions.
        saturated: the largest share of an activation's outputs that lay exactly at its limits.
        halves: types of less than 32 bits that were computed in.
        overflow: operations with an infinite or no number in such a type.
        custom: autograd functions of the model's own.
        drawing: torch's operations that drew.
        out_of_reach: types of modules in train mode that were called though the model does not hold them: in a list, a
            closure or a global they lie beyond ``eval()``.
        calls: how often the leaf module called most often was called.
        batch_statistics: calls of batch_norm that normalised by the batch, as in training.
        drawn: the sum of all that torch drew: another where the image decides the seed.
    """

    functions: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    random: dict[str, int] = field(default_factory=dict)
    gradient_calls: int = 0
    saturated: dict[str, float] = field(default_factory=dict)
    halves: dict[str, int] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    custom: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    drawing: dict[str, int] = field(default_factory=dict)
    out_of_reach: dict[str, int] = field(default_factory=dict)
    batch_statistics: int = 0
    drawn: float = 0.0

    def seen(self, names: tuple[str, ...]) -> list[str]:
        """Those of ``names`` that the model used."""
        return [name for name in names if name in self.functions or name in self.operations]

    @property
    def saturating(self) -> str | None:
        """The activation that is at its limits for most of its outputs."""
        full = [name for name, share in self.saturated.items() if share > MOST]
        return full[-1] if full else None


def watched(model: nn.Module, x: Tensor, *, grad: bool = True) -> Trace:
    """One forward pass of ``x`` under observation; what was seen until then where the model refuses it."""
    trace, drawn, given = Trace(), global_generators(), x.detach().clone().requires_grad_(grad)
    with ExitStack() as stack:
        stack.enter_context(_calls(trace, model))
        stack.enter_context(torch.enable_grad() if grad else torch.no_grad())
        stack.enter_context(_Functions(trace))
        stack.enter_context(_Operations(trace))
        try:
            model(given)
        except Exception:  # a user's own module may raise anything
            trace.functions["(refused to be watched)"] = 1
    for name, before, after in zip((OWN[1], OWN[2]), drawn, global_generators(), strict=True):
        if before != after:  # compiled functions are not seen when they are called
            _add(trace.random, name)
    return trace


def _add(found: dict[str, int], name: str) -> None:
    found[name] = found.get(name, 0) + 1


class _Functions(TorchFunctionMode):
    """Torch's functions as the model calls them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "_set_grad_enabled":
            name = "no_grad" if args and not args[0] else ""
        if name:
            _add(self.trace.functions, name)
        if name == "batch_norm":  # training is its sixth argument; instance norm does not come here
            given = args[5] if len(args) > 5 else (kwargs or {}).get("training")
            self.trace.batch_statistics += given is True
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    """Aten's operations and their values."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if (
            name != "detach"
        ):  # torch's own, of what a backward pass saves; the model's goes by the function's name
            _add(self.trace.operations, name)
        if torch.is_inference_mode_enabled():
            self.trace.functions["inference_mode"] = 1
        if func.namespace == "quantized":
            _add(self.trace.operations, "kernels of integers")
        if name in ("_to_copy", "view") and _to_integers(out, args[0]):
            _add(self.trace.operations, "to integers")
        if torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name:
            own = (kwargs or {}).get("generator") is not None
            _add(self.trace.random, OWN[0] if own else "torch")
            _add(self.trace.drawing, name)
            self.trace.drawn += float(out.double().sum()) if isinstance(out, Tensor) else 0.0
        if isinstance(out, Tensor) and out.is_floating_point() and out.numel():
            self._values(name, out, args)
        return out

    def _values(self, name: str, out: Tensor, args: Any) -> None:
        if name in SATURATING:
            share = _at_limits(name, out, args[0] if args else None)
            self.trace.saturated[name] = max(self.trace.saturated.get(name, 0.0), share)
        if out.dtype.itemsize < 4:
            _add(self.trace.halves, str(out.dtype).removeprefix("torch."))
            if not bool(out.float().isfinite().all()):
                _add(self.trace.overflow, name)


def _to_integers(out: Any, given: Any) -> bool:
    return isinstance(given, Tensor) and given.is_floating_point() and not out.is_floating_point()


def _at_limits(name: str, out: Tensor, given: Any) -> float:
    """The share of outputs that another input nearby would not change."""
    if name in ("clamp", "hardtanh") and isinstance(given, Tensor) and given.shape == out.shape:
        return float((given != out).double().mean())
    low, high = (-1.0, 1.0) if name in ("tanh", "erf") else (0.0, 1.0)
    near = 0.0 if "softmax" in name else AT_LIMIT  # a probability may be small and right
    return float(((out <= low + near) | (out >= high - near)).double().mean())


@contextmanager
def _calls(trace: Trace, model: nn.Module) -> Iterator[None]:
    """Gradient functions, generators outside torch, custom autograd functions, and calls of leaf modules."""
    watched_code = {function.__code__ for function in DIFFERENTIATING}
    apply = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
    previous, counts, importing = sys.getprofile(), dict[int, int](), 0

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal importing
        if (
            frame.f_code is IMPORTING
        ):  # what a module draws when it is first imported is not drawn for an image
            importing += (event == "call") - (event == "return")
        if importing:
            return
        if event == "call":
            trace.gradient_calls += frame.f_code in watched_code
            if frame.f_code is apply:
                name = getattr(frame.f_locals.get("cls"), "__name__", "function")
                _add(trace.functions if name == HOOKING[-1] else trace.custom, name)
            if isinstance(frame.f_locals.get("self"), random.Random):
                _add(trace.random, OWN[2])
        elif event == "c_call" and frame.f_globals.get("__name__", "").partition(".")[0] not in NO_PART:
            _outside(trace, argument)

    def count(module: nn.Module, args: Any) -> None:
        counts[id(module)] = counts.get(id(module), 0) + 1

    held = {id(module) for module in model.modules()}

    def beyond(module: nn.Module, args: Any) -> None:
        if is_training(module) and id(module) not in held:
            _add(trace.out_of_reach, type(module).__name__)

    scripted = torch.jit.ScriptModule  # takes no such hooks
    leaves = [
        module
        for module in model.modules()
        if not isinstance(module, scripted) and next(module.parameters(recurse=False), None) is not None
    ]
    hooks = [module.register_forward_pre_hook(count) for module in leaves]
    hooks.append(register_module_forward_pre_hook(beyond))
    collecting = gc.isenabled()
    gc.disable()  # finalisers of others run when they like, and some read the clock
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(previous)
        if collecting:
            gc.enable()
        for hook in hooks:
            hook.remove()
        trace.calls = max(counts.values(), default=0)


def _outside(trace: Trace, function: Any) -> None:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, (np.random.Generator, np.random.RandomState)):
        _add(trace.random, OWN[1])
    elif isinstance(owner, random.Random):
        _add(trace.random, OWN[2])
    elif function in (os.urandom, getattr(os, "getrandom", None)) or _reads_the_clock(function, owner):
        _add(trace.random, OWN[3])
    elif function in (torch.from_numpy, np.array, np.asarray):
        _add(trace.functions, "NumPy")


def _reads_the_clock(function: Any, owner: Any) -> bool:
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "") == "time":
        return name not in ("sleep", "mktime", "strftime", "strptime", "asctime")
    return getattr(owner, "__module__", "") == "datetime" and name in ("now", "utcnow", "today")


def merged(first: Trace, second: Trace) -> Trace:
    """What either saw."""
    out = Trace(gradient_calls=max(first.gradient_calls, second.gradient_calls))
    for name in MERGED:
        setattr(out, name, getattr(second, name) | getattr(first, name))
    out.calls = max(first.calls, second.calls)
    out.batch_statistics = max(first.batch_statistics, second.batch_statistics)
    return out
