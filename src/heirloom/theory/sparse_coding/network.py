"""Two-layer networks f(z) = sum_h a_h sigma(z^T W_h, b_h) (Xing et al., AISTATS 2024, Sections 3.2, B).

The paper's orientation: W is (d, H), node h is column W_h, and U = M^T W holds the strength of each feature
in each node. All functions take leading batch dimensions (one network for each seed, say).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require

Activation = Literal["gate", "relu", "tanh", "gelu", "silu"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


def activate(v: Tensor, e: Tensor | float, activation: Activation = "gate") -> tuple[Tensor, Tensor]:
    """sigma(v, e) and its slope in v, both shaped as ``v``; e >= 0 broadcasts against it.

    ``gate``: v 1{abs(v) >= e}, equation (1), slope 1{abs(v) >= e}; ``relu``: max(v - e, 0); ``gelu`` and
    ``silu``: the same shift in front of x Phi(x) and x sigmoid(x); ``tanh``: tanh(v), which has no
    intercept, for a shift would break its oddness.
    """
    if activation == "gate":
        on = (v.abs() >= e).to(v.dtype)
        return v * on, on
    if activation == "tanh":
        value = v.tanh()
        return value, 1 - value.square()
    shifted = v - e
    if activation == "relu":
        return shifted.clamp_min(0), (shifted > 0).to(v.dtype)
    if activation == "silu":
        gate = shifted.sigmoid()
        return shifted * gate, gate * (1 + shifted * (1 - gate))
    require(activation == "gelu", "activation", f"one of {', '.join(ACTIVATIONS)}", activation)
    normal = 0.5 * (1 + torch.erf(shifted * 0.5**0.5))
    density = torch.exp(-0.5 * shifted.square()) * (2 * torch.pi) ** -0.5
    return shifted * normal, normal + shifted * density


class TwoLayer(nn.Module):
    """One two-layer network: z (n, d) -> (n,) or, with ``a`` of shape (H, outputs), (n, outputs).

    Args:
        W: (d, H); b: (H,) intercepts, at least 0; a: (H,) or (H, outputs).
    """

    def __init__(self, W: Tensor, b: Tensor, a: Tensor, activation: Activation = "gate") -> None:
        super().__init__()
        require(W.ndim == 2 and b.shape == (W.shape[1],), "b", f"of shape ({W.shape[-1]},)", tuple(b.shape))
        require(len(a) == W.shape[1], "a", f"of length {W.shape[1]}", len(a))
        require(activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", activation)
        self.W, self.b, self.a = nn.Parameter(W), nn.Parameter(b, requires_grad=False), nn.Parameter(a)
        self.activation: Activation = activation

    def hidden(self, z: Tensor) -> Tensor:
        """sigma(z^T W, b), shape (n, H): what a downstream head gets (Section 6)."""
        return activate(z @ self.W, self.b, self.activation)[0]

    def forward(self, z: Tensor) -> Tensor:
        return self.hidden(z) @ self.a


@dataclass(frozen=True)
class Scores:
    """f(z) = sum_h a_h sigma(z^T W_h, b_h) of n points.

    ``pull`` maps z (n, d) to z W (n, H), ``push`` maps (n, H) to its product with W^T (n, d): two calls, so
    that a network kept as lists needs no dense W.
    """

    pull: Callable[[Tensor], Tensor]
    push: Callable[[Tensor], Tensor]
    b: Tensor
    a: Tensor
    activation: Activation = "gate"

    @classmethod
    def of(cls, W: Tensor, b: Tensor, a: Tensor, activation: Activation = "gate") -> Scores:
        """From a dense W (d, H)."""
        return cls(lambda z: z @ W, lambda v: v @ W.T, b, a, activation)

    def __call__(self, z: Tensor) -> Tensor:
        return (activate(self.pull(z), self.b, self.activation)[0] * self.a).sum(-1)
