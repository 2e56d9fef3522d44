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
    found = checked(model, x)
    return model if found is None else found[1]


def checked(model: nn.Module, x: Tensor) -> tuple[Fold, nn.Module] | None:
    """What folds in ``model`` and the copy that :func:`folded` gives, None where that gives ``model`` itself."""
    if model.training or not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return None
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        original = copy.deepcopy(model).requires_grad_(False)
        with torch.random.fork_rng(devices=devices), torch.autocast(x.device.type, enabled=False):
            fold = Fold.of(original)
            candidate = fold.built(original).requires_grad_(False)  # shares what is not folded
            same = _agree(original, candidate, x[:1]) and _agree(original, candidate, x[:3])
    except Exception:  # whatever a foreign model's tracing meets: the model itself is always right
        return None
    return (fold, candidate) if same else None


@dataclass(frozen=True)
class Fold:
    """A model's graph without the BatchNorm layers that follow a convolution, and the names of such pairs."""

    graph: torch.fx.Graph
    pairs: list[tuple[str, str]]

    @staticmethod
    def of(model: nn.Module) -> Fold:
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
        return Fold(traced.graph, pairs)

    def built(self, model: nn.Module) -> nn.Module:
        """The graph with ``model``'s own layers, but for the folded convolutions."""
        found = torch.fx.GraphModule(model, copy.deepcopy(self.graph))
        for convolution, norm in self.pairs:
            pair: Any = model.get_submodule(convolution), model.get_submodule(norm)
            fused = fuse_conv_bn_eval(*pair)
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
