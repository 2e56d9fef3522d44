"""The same function at less cost: BatchNorm folded into the convolution before it, for the attacks' passes.

In eval mode BatchNorm is an affine map with constant coefficients, so convolution and BatchNorm are one
convolution (Jacob et al., CVPR 2018, section 3.2). The verdict is always passed on the model itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

TOLERANCE = 1e-4  # relative, for outputs and input gradients of the folded copy


def folded(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of ``model`` without the BatchNorm layers that follow a convolution, or ``model`` itself.

    Args:
        model: in eval mode; it is not called and not changed.
        x: one or more images, to check the copy with.

    Returns:
        the copy, whose parameters need no gradient, if the model can be traced and the copy's outputs and
        input gradients agree with the original's on ``x`` to 1e-4; ``model`` where it cannot, where nothing
        folds, or where its forward pass draws at random.
    """
    if model.training or not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        original = copy.deepcopy(model).requires_grad_(False)
        with torch.random.fork_rng(devices=devices), torch.autocast(x.device.type, enabled=False):
            candidate = _Fold.of(original).built(original).requires_grad_(False)  # shares what is not folded
            same = _agree(original, candidate, x[:1]) and _agree(original, candidate, x[:3])
    except Exception:  # whatever a foreign model's tracing meets: the model itself is always right
        return model
    return candidate if same else model


class Refolded:
    """:func:`folded` for a model that is still learning: traced and checked once, folded again at every call.

    What is not folded is the model's own, so the copy has the weights of now; a model whose layers or tensors are
    others than at the last call is looked at anew. A compiled model's copy is compiled too, without a gradient for any
    weight, which a compiled backward pass would compute although attacks do not ask for it.
    """

    def __init__(self) -> None:
        self._parts: list[object] = []
        self._fold: _Fold | None = None
        self._copy: nn.Module | None = None
        self._precision: torch.dtype | None = None

    def of(self, model: nn.Module, x: Tensor) -> nn.Module:
        """``model``, in eval mode, as it is now without the BatchNorm layers that fold; itself where none does."""
        tensors = [*model.parameters(), *model.buffers()]
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


def _cheaper(model: nn.Module, x: Tensor) -> tuple[_Fold | None, nn.Module | None]:
    """(what folds in ``model``, a copy that shares its tensors), None each where there is none."""
    if any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):  # spread out by FSDP
        return None, None
    plain = copy.copy(model)
    vars(plain).pop("_compiled_call_impl", None)
    if hasattr(plain, "_original_forward"):  # Accelerate's, which casts round it
        vars(plain).pop("forward", None)
    fold = None if folded(plain, x) is plain else _Fold.of(copy.deepcopy(plain))
    if getattr(model, "_compiled_call_impl", None) is None:
        return fold, fold and fold.built(plain)
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


@dataclass(frozen=True)
class _Fold:
    """A model's graph without the BatchNorm layers that follow a convolution, and the names of such pairs."""

    graph: torch.fx.Graph
    pairs: list[tuple[str, str]]

    @staticmethod
    def of(model: nn.Module) -> _Fold:
        """Tracing calls ``model``'s code, which may write to its attributes: give it a copy."""
        traced = torch.fx.symbolic_trace(model)
        modules, pairs = dict(traced.named_modules()), []
        for node in list(traced.graph.nodes):
            if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
                continue
            before = node.args[0]
            if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) != 1:
                continue
            shared = sum(other.target == before.target for other in traced.graph.nodes) > 1
            convolution = modules[str(before.target)]
            if type(convolution) is not nn.Conv2d or shared or modules[node.target].running_mean is None:
                continue
            pairs.append((str(before.target), str(node.target)))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
        if not pairs:
            raise ValueError("no BatchNorm follows a convolution")
        return _Fold(traced.graph, pairs)

    def built(self, model: nn.Module) -> nn.Module:
        """The graph with ``model``'s own layers, but for the folded convolutions."""
        found = torch.fx.GraphModule(model, copy.deepcopy(self.graph))
        for convolution, norm in self.pairs:
            fused = fuse_conv_bn_eval(model.get_submodule(convolution), model.get_submodule(norm))
            _replace(found, convolution, fused.requires_grad_(False))
        return found

    @torch.no_grad()
    def refresh(self, found: nn.Module, model: nn.Module) -> None:
        """Fold ``model``'s weights of now into ``found``, built from it earlier."""
        for convolution, norm in self.pairs:
            fused: Any = found.get_submodule(convolution)
            weight, bias = _fused(model.get_submodule(convolution), model.get_submodule(norm))
            fused.weight.copy_(weight)
            fused.bias.copy_(bias)


def _fused(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the two in eval mode as one convolution."""
    statistics = norm.running_mean, norm.running_var, norm.eps
    return fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics, norm.weight, norm.bias)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _agree(original: nn.Module, candidate: nn.Module, x: Tensor) -> bool:
    """Outputs and input gradients (of an arbitrary fixed direction) within tolerance, not a number nowhere."""
    results = []
    for one in (original, candidate):
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            output = one(point)
            weight = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
            gradient = None
            if output.requires_grad:
                (gradient,) = torch.autograd.grad((output.float() * weight).sum(), point, allow_unused=True)
        results.append((output.detach(), torch.zeros_like(x) if gradient is None else gradient))
    return all(_close(a, b) for a, b in zip(*results, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp_min(1e-12))
