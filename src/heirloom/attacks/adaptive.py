"""Models made attackable: expectation over randomness, and gradients for parts that have none.

Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018: EOT (section
4.3, after Athalye et al., ICML 2018) and BPDA (section 4.1). An attack finds its point on the wrapped model;
the verdict is always passed on the model itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require


class EOT(nn.Module):
    """The expectation of a random model's output over ``draws`` forward passes.

    Args:
        model: draws anew in each pass.
        draws: how many; the gradient is that of the mean.
        average: ``"logits"`` takes their mean; ``"probabilities"`` gives the log of the mean softmax.
    """

    def __init__(self, model: nn.Module, draws: int = 20, *, average: str = "logits") -> None:
        super().__init__()
        require(draws >= 1, "draws", "at least 1", draws)
        require(average in ("logits", "probabilities"), "average", "logits or probabilities", average)
        self.model, self.draws, self.average = model, draws, average
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.stack([self.model(x) for _ in range(self.draws)])
        if self.average == "logits":
            return outputs.mean(0)
        return outputs.log_softmax(2).logsumexp(0) - torch.tensor(float(self.draws)).log().to(outputs)


class BPDA(nn.Module):
    """A part that is not differentiable (or whose gradient misleads), with another's gradient.

    Args:
        part: what the forward pass computes; no gradient is taken through it.
        backward: a differentiable stand-in of the same output shape; the identity by default, for a
            preprocessor with part(x) close to x ("straight-through").
    """

    def __init__(self, part: nn.Module, backward: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.part, self.backward = part, backward
        self.train(part.training)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            value = self.part(x)
        stand_in = x if self.backward is None else self.backward(x)
        require(
            stand_in.shape == value.shape,
            "backward",
            f"of the part's output shape {tuple(value.shape)}",
            tuple(stand_in.shape),
        )
        # the value of one, the gradient of the other
        return value.detach() + (stand_in - stand_in.detach())
