"""What a checkpoint's own classifier reads: the input of the linear layer that says its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ReadThrough(nn.Linear):
    """A classifier's last layer that hands on what it is given; its weights stay with the model."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def read_through(backbone: nn.Module, run: Callable[[], Any]) -> str | None:
    """Make ``backbone`` give features in the place of its logits, by its last layer.

    Args:
        run: passes images through ``backbone``; what it returns has ``logits``.

    Returns:
        the layer's name; None where the logits are no linear layer's output, and nothing is changed.
    """
    name = _layer_of_logits(backbone, run)
    if name is not None:
        parent, _, leaf = name.rpartition(".")
        setattr(backbone.get_submodule(parent), leaf, _handing_on(backbone.get_submodule(name)))
    return name


def _layer_of_logits(backbone: nn.Module, run: Callable[[], Any]) -> str | None:
    said: dict[str, Tensor] = {}
    watched = [
        part.register_forward_hook(lambda _, __, out, name=name: said.update({name: out}))
        for name, part in backbone.named_modules()
        if isinstance(part, nn.Linear)
    ]
    try:
        logits = run().logits
    finally:
        for hook in watched:
            hook.remove()
    return next((name for name, out in said.items() if out is logits), None)


def _handing_on(layer: Any) -> ReadThrough:
    sizes = layer.in_features, layer.out_features
    found: ReadThrough = nn.utils.skip_init(ReadThrough, *sizes, bias=layer.bias is not None)
    found.weight, found.bias = layer.weight, layer.bias
    return found.eval()
