"""How many images went through a model, forward and backward: what an attack costs on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Passes:
    """Images that went through the model, each pass counted."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)


class Counted(nn.Module):
    """``model`` as it is, with ``passes`` so far; a gradient counts for each image whose output it starts from."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.passes = model, Passes()
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.model(x)
        self.passes += Passes(forward=len(x))
        if torch.is_tensor(output) and output.requires_grad:
            output = output.view_as(output)  # a hook of our own on no tensor of the model's
            output.register_hook(self._count)
        return output

    def __getattr__(self, name: str) -> Any:
        """Whatever else an attack that knows its model asks for."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def _count(self, gradient: Tensor) -> None:
        self.passes += Passes(backward=len(gradient))
