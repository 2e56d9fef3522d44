"""A model's output, and the gradient of a loss with respect to the input only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import Loss


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """The output for float32 pixels ``x``, in float32, whatever type the model computes in.

    A model with bfloat16, float16 or float64 parameters is given its input in that type; ``x`` and every
    perturbation of it stay float32.
    """
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
    return model(x if wanted == x.dtype else x.to(wanted)).float()


def input_gradient(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, *, draws: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass; ``draws`` of each for the expectation over a random model.

    Args:
        model: any module; its parameters get no gradient and keep their ``.grad``.
        x: (N, ...) float32; y: what ``loss`` takes as its second argument.
        draws: passes to average over (expectation over transformation: Athalye et al., ICML 2018).

    Returns:
        the gradient of the summed loss (N, ...), zero where the output does not depend on ``x`` or the
        gradient is not finite; the loss of each example (N,); the model's output in float32.
    """
    if draws == 1:
        return _one_gradient(model, x, y, loss)
    drawn = [_one_gradient(model, x, y, loss) for _ in range(draws)]
    gradient, values, output = (torch.stack(parts).mean(0) for parts in zip(*drawn, strict=True))
    return gradient, values, output


def _one_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = predict(model, x)
        values = loss(output, y)
        if not values.requires_grad:  # a detached model: no gradient exists, which is a zero gradient
            return torch.zeros_like(x), values, output
        (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
    return gradient, values.detach(), output.detach()
