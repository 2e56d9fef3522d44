"""The gradient of a loss with respect to the input only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import Loss


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass.

    Args:
        model: any module; its parameters get no gradient and keep their ``.grad``.
        x: (N, ...) float32; y: what ``loss`` takes as its second argument.

    Returns:
        the gradient of the summed loss (N, ...), zero where the output does not depend on ``x``; the loss of
        each example (N,); the model's output in float32.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = model(x).float()
        values = loss(output, y)
        if not values.requires_grad:  # a detached model: no gradient exists, which is a zero gradient
            return torch.zeros_like(x), values, output
        (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(x)
    return gradient, values.detach(), output.detach()
