"""Where the gradient is lost: the operation behind which nothing is left of what came to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.losses import margin
from heirloom.evaluation.audit.subject import Subject
from heirloom.evaluation.copies import fixed
from heirloom.threat import norms

LEFT = 1e-4  # of the largest entry that came to an operation: no network shrinks a gradient so at one place
# operations that are flat where they have reached a limit
LIMITED = (
    *("Sigmoid", "Tanh", "Clamp", "ClampMin", "ClampMax", "Hardtanh", "Hardsigmoid", "Minimum", "Maximum"),
    *("Exp", "Atan", "Erf", "Softmax", "LogSoftmax"),
)


DUAL = {"Linf": "L1", "L2": "L2", "L1": "Linf"}


@dataclass(frozen=True)
class Slope:
    """Gradients of the margin at a random point, and where they are missing; booleans (K,).

    ``constant``: where changing a few pixels by ``step`` changes no logit. ``lost_in``: the operation that loses
    the gradient where ``flat``.
    """

    at_start: Tensor
    zero: Tensor
    flat: Tensor
    constant: Tensor
    step: float
    lost_in: str | None = None


def dual(subject: Subject, gradient: Tensor) -> Tensor:
    """The dual norm (K,): eps times it is the most that a linear loss could rise."""
    return norms(gradient.double(), DUAL[subject.threat.norm]).flatten()  # type: ignore[arg-type]


def share_of(found: Tensor) -> float:
    return float(found.double().mean())


def lost_in(model: nn.Module, x: Tensor, y: Tensor) -> str | None:
    """The operation nearest to the output that passes less than ``LEFT`` of the margin's gradient on towards ``x``.

    A custom backward pass goes by its class's name. None where no single operation does.
    """
    with torch.enable_grad(), fixed(x.device):
        given = x.detach().clone().requires_grad_()
        values = margin(predict(model, given), y)
        if values.grad_fn is None:
            return None
        order = _towards(values.grad_fn, given)
        kept: dict[Any, float] = {}
        hooks = [node.register_hook(_measured(node, order, kept)) for node in order]
        try:
            torch.autograd.grad(values.sum(), given, allow_unused=True)
        except RuntimeError:
            return None
        finally:
            for hook in hooks:
                hook.remove()
    for node in order:
        if kept.get(node, 1.0) < LEFT:
            return str(node.name()).rstrip("0123456789").removesuffix("Backward")
    return None


def _towards(output: Any, x: Tensor) -> dict[Any, list[int]]:
    """Operations from ``output`` on from which ``x`` is reached, each with the inputs that lead there, in order."""
    seen, queue, after = {output: True}, deque([output]), dict[Any, list[tuple[Any, int]]]()
    while queue:
        node = queue.popleft()
        for number, (following, _) in enumerate(node.next_functions):
            if following is None:
                continue
            after.setdefault(following, []).append((node, number))
            if following not in seen:
                seen[following] = True
                queue.append(following)
    reaching = [node for node in seen if getattr(node, "variable", None) is x]
    found: dict[Any, list[int]] = {}
    while reaching:
        for node, number in after.get(reaching.pop(), []):
            if node not in found:
                reaching.append(node)
            found.setdefault(node, []).append(number)
    return {node: found[node] for node in seen if node in found}


def _measured(node: Any, order: dict[Any, list[int]], kept: dict[Any, float]) -> Any:
    def hook(inwards: Sequence[Tensor | None], outwards: Sequence[Tensor | None]) -> None:
        came = _largest(outwards)
        left = _largest([inwards[number] for number in order[node] if number < len(inwards)])
        if came > 0:
            kept[node] = left / came

    return hook


def _largest(gradients: Sequence[Tensor | None]) -> float:
    return max((float(g.detach().abs().max()) for g in gradients if g is not None and g.numel()), default=0.0)
