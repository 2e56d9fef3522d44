"""LARS, the optimiser that contrastive pre-training with large batches uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from heirloom.runtime.errors import require


class LARS(SGD):
    """SGD with momentum whose step is scaled tensor by tensor to the size of the weights.

    You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017, Algorithm 1, in the form
    of the RoCL code: before SGD's own step, the gradient of each tensor becomes
    ``trust norm(w) / (norm(g) + weight_decay norm(w)) (g + weight_decay w)``.

    Args:
        params: what any optimiser takes.
        lr, momentum, weight_decay: as in SGD; RoCL uses .1, .9 and 1e-6.
        trust: the trust coefficient, .001 in the paper.
        adapt_vectors: also rescale (and decay) tensors of one dimension, that is BatchNorm weights and
            biases: the quirk of RoCL's code. SimCLR leaves them to plain SGD, and so does the default.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
        adapt_vectors: bool = False,
    ) -> None:
        require(trust > 0, "trust", "a number above 0", trust)
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=0.0)
        self.trust, self.decay, self.adapt_vectors = trust, weight_decay, adapt_vectors

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        kept = []
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            if parameter.ndim > 1 or self.adapt_vectors:
                kept.append((parameter, parameter.grad))
                parameter.grad = self._scaled(parameter, parameter.grad)
        super().step()
        for parameter, gradient in kept:  # the caller's gradients stay what backward() made them
            parameter.grad = gradient
        return loss

    def _scaled(self, weight: Tensor, gradient: Tensor) -> Tensor:
        size, slope = weight.norm(), gradient.norm()
        rate = self.trust * size / (slope + self.decay * size + 1e-8)
        rate = torch.where((size > 0) & (slope > 0), rate, 1.0)
        return rate * (gradient + self.decay * weight)
