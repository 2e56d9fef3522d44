"""The same function at less cost: BatchNorm folded into the convolution before it, for the attacks' passes.

In eval mode BatchNorm is an affine map with constant coefficients, so convolution and BatchNorm are one
convolution (Jacob et al., CVPR 2018, section 3.2). The verdict is always passed on the model itself.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READ = (
    "item",
    "tolist",
    "numpy",
    "equal",
    "allclose",
    "is_nonzero",
    "__bool__",
    "__float__",
    "__int__",
    "__array__",
)
READ_INSIDE = "_local_scalar_dense"  # where torch's own code does so
TOLERANCE = 1e-4  # relative, for outputs and input gradients of the folded copy


def folded(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of ``model`` without the BatchNorm layers that follow a convolution, or ``model`` itself.

    Args:
        model: in eval mode; it is not called and not changed.
        x: one or more images, to see the layers at work and to check the copy with.

    Returns:
        the copy, whose parameters need no gradient, if its outputs and input gradients agree with the original's on
        ``x`` to 1e-4; ``model`` where they do not, where nothing folds, or where its forward pass draws at random or
        reads values of a tensor, by which it could take another way for other images.
    """
    found = checked(model, x)
    return model if found is None else found[1]


def checked(model: nn.Module, x: Tensor) -> tuple[Fold, nn.Module] | None:
    """What folds in ``model`` and the copy that :func:`folded` gives, None where that gives ``model`` itself."""
    parts = list(model.modules())
    if model.training or not any(isinstance(part, nn.BatchNorm2d) for part in parts):
        return None
    if any(getattr(part, "is_sharded", False) or hasattr(part, "_orig_mod") for part in parts):
        return None  # weights that lie elsewhere; compiled code, which keeps its own layers
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        original = copy.deepcopy(model).requires_grad_(False)
        with torch.random.fork_rng(devices=devices), torch.autocast(x.device.type, enabled=False):
            fold = Fold.of(original, x[:1])
            candidate = fold.built(original).requires_grad_(False)  # shares what is not folded
            same = _agree(original, candidate, x) or _agrees_exactly(fold, original, x)
    except Exception:  # whatever a foreign model's code meets: the model itself is always right
        return None
    return (fold, candidate) if same else None


@dataclass(frozen=True)
class Fold:
    """The names of those convolutions and BatchNorm layers of a model that are one convolution in eval mode."""

    pairs: list[tuple[str, str]]

    @staticmethod
    def of(model: nn.Module, x: Tensor) -> Fold:
        """Those where, on ``x``, the one's output goes into the other and nowhere else.

        A forward pass may write to attributes: give it a copy of the model, without gradients of its weights.
        """
        point = x.detach().clone().requires_grad_()
        with torch.enable_grad(), _watched(model) as (made, taken), _NothingRead(), _NothingReadInside():
            output = model(point)
        calls = Counter(part for part, _ in [*made, *taken])
        once = {id(out): (part, out) for part, out in made if calls[part] == 1}
        uses, names = _uses(output), {part: name for name, part in model.named_modules()}
        pairs = []
        for norm, given in taken:
            convolution, out = once.get(id(given), (None, None))
            alone = out is not None and uses[out.grad_fn] == 1 and calls[norm] == 1
            if convolution is not None and alone and _is_affine(norm):
                pairs.append((names[convolution], names[norm]))
        if not pairs:
            raise ValueError("no BatchNorm follows a convolution")
        return Fold(pairs)

    def built(self, model: nn.Module) -> nn.Module:
        """``model`` with its own layers, but for the folded convolutions."""
        other: dict[nn.Module, nn.Module] = {}
        for convolution, norm in self.pairs:
            pair: Any = model.get_submodule(convolution), model.get_submodule(norm)
            fused = fuse_conv_bn_eval(*pair)
            other |= {pair[0]: fused.requires_grad_(False), pair[1]: nn.Identity()}
        return _with(other, model)

    @torch.no_grad()
    def refresh(self, found: nn.Module, model: nn.Module) -> None:
        """Fold ``model``'s weights of now into ``found``, built from it earlier."""
        for convolution, norm in self.pairs:
            fused: Any = found.get_submodule(convolution)
            weight, bias = _fused(model.get_submodule(convolution), model.get_submodule(norm))
            fused.weight.copy_(weight)
            fused.bias.copy_(bias)


def _hands_on(func: Any, args: Any, kwargs: Any, name: str, refused: Sequence[str]) -> Any:
    if name in refused:
        raise ValueError("the forward pass reads values, and may do something else for others")
    return func(*args, **(kwargs or {}))


class _NothingRead(TorchFunctionMode):
    """Raises where Python reads a tensor's values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _hands_on(func, args, kwargs, getattr(func, "__name__", ""), READ)


class _NothingReadInside(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _hands_on(func, args, kwargs, func.overloadpacket.__name__, [READ_INSIDE])


Seen = list[tuple[nn.Module, Any]]


@contextmanager
def _watched(model: nn.Module) -> Iterator[tuple[Seen, Seen]]:
    """(convolutions with what they return, BatchNorm layers with what they are given), call by call."""
    made, taken = Seen(), Seen()
    handles = []
    for part in model.modules():
        if _is_stored(part):
            handles.append(part.register_forward_hook(lambda part, _, output: made.append((part, output))))
        elif isinstance(part, nn.BatchNorm2d):
            handles.append(
                part.register_forward_pre_hook(lambda part, given: taken.append((part, [*given, None][0])))
            )
    try:
        yield made, taken
    finally:
        for handle in handles:
            handle.remove()


def _is_stored(part: nn.Module) -> bool:
    """A convolution whose weight is its own, not computed at every pass."""
    return isinstance(part, nn.Conv2d) and "weight" in part._parameters


def _uses(output: Tensor) -> Counter[Any]:
    """How often what each node of the graph behind ``output`` computes is used."""
    found, waiting = Counter[Any](), [output.grad_fn]
    while waiting:
        for node, _ in getattr(waiting.pop(), "next_functions", ()):
            if node is not None:
                waiting += [] if node in found else [node]
                found[node] += 1
    return found


def _is_affine(norm: Any) -> bool:
    return not norm.training and norm.running_mean is not None


def _with(other: dict[nn.Module, nn.Module], module: nn.Module) -> nn.Module:
    """``module`` with ``other`` parts in place of some of its own; the rest is shared, and it is not changed."""
    if module in other:
        return other[module]
    parts = {name: None if part is None else _with(other, part) for name, part in module._modules.items()}
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    found = other[module] = copy.copy(module)
    found._modules = parts
    return found


def _fused(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the two in eval mode as one convolution."""
    statistics = norm.running_mean, norm.running_var, norm.eps
    return fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics, norm.weight, norm.bias)


def _agrees_exactly(fold: Fold, original: nn.Module, x: Tensor) -> bool:
    """In float64, where a deep network's ReLUs do not open and close by rounding."""
    exact = copy.deepcopy(original).double()
    return _agree(exact, fold.built(exact), x.double())


def _agree(original: nn.Module, candidate: nn.Module, x: Tensor) -> bool:
    """On one image and on three."""
    return _agree_on(original, candidate, x[:1]) and _agree_on(original, candidate, x[:3])


def _agree_on(original: nn.Module, candidate: nn.Module, x: Tensor) -> bool:
    """Outputs and input gradients (of an arbitrary fixed direction) within tolerance, not a number nowhere."""
    results = []
    for one in (original, candidate):
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            output = one(point)
            weight = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
            gradient = None
            if output.requires_grad:
                (gradient,) = torch.autograd.grad(
                    (output * weight.to(output)).sum(), point, allow_unused=True
                )
        results.append((output.detach(), torch.zeros_like(x) if gradient is None else gradient))
    return all(_close(a, b) for a, b in zip(*results, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp_min(1e-12))
