"""Two-layer networks f(z) = sum_h a_h sigma(z^T W_h, b_h) (Xing et al., AISTATS 2024, Sections 3.2, B, E.1).

The paper's orientation: W is (d, H), node h is column W_h, and U = M^T W holds the strength of each feature
in each node. All functions take leading batch dimensions (one network for each seed, say).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import reject, require

Activation = Literal["gate", "relu", "tanh", "gelu", "silu"]
Kind = Literal["random", "exact", "grouped"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
KINDS: tuple[str, ...] = get_args(Kind)


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
class BuiltNetwork:
    """A network with a controlled number of features per node (E.1), kept as lists.

    ``members`` (d, r) holds the r = H m / d nodes that each feature joins, every entry of U there being
    ``strength`` = d / (H m), so that U 1 = 1. ``joined`` lists the features node by node, node h's from
    ``offsets[h]`` to ``offsets[h + 1]``.
    """

    members: Tensor
    joined: Tensor
    offsets: Tensor
    strength: float

    @property
    def nodes(self) -> int:
        return len(self.offsets) - 1

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The dense U (d, H)."""
        U = torch.zeros(len(self.members), self.nodes, dtype=dtype)
        return U.scatter_(1, self.members, self.strength)


def built_network(
    d: int, nodes: int, m: int, generator: torch.Generator, kind: Kind = "random"
) -> BuiltNetwork:
    """A network with m features per node on average.

    Args:
        nodes: H; H m must be a multiple of d, and m at most d.
        kind: ``random``, the paper's E.1: each feature joins H m / d nodes drawn without replacement;
            ``exact``: every node has m features, every feature H m / d nodes; ``grouped``: features come in
            groups of m which share their nodes, as in the proof of Theorem A.1 (m must divide d).
    """
    require(1 <= m <= d, "m", f"from 1 to d = {d}", m)
    require(nodes >= 1 and nodes * m % d == 0, "H m", f"a multiple of d = {d}", nodes * m)
    require(kind in KINDS, "kind", f"one of {', '.join(KINDS)}", kind)
    joins = nodes * m // d
    require(joins <= nodes, "m", f"at most d = {d}", m)
    if kind == "random":
        members = _distinct(d, joins, nodes, generator)
    elif kind == "exact":
        members = _exact(d, nodes, m, generator)
    else:
        require(d % m == 0, "m", f"a divisor of d = {d} for grouped nodes", m)
        groups = torch.randperm(nodes, generator=generator).view(d // m, joins)
        members = groups.repeat_interleave(m, 0)[torch.randperm(d, generator=generator)]
    return _network(members, nodes, d / (nodes * m))


def _network(members: Tensor, nodes: int, strength: float) -> BuiltNetwork:
    flat = members.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=nodes)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    return BuiltNetwork(members, order // members.shape[1], offsets, strength)


def _distinct(rows: int, size: int, below: int, generator: torch.Generator) -> Tensor:
    """Rows of ``size`` distinct numbers below ``below``, uniform: repeats are drawn anew till none is left."""
    if 2 * size > below:  # too few numbers are left for drawing anew: shuffle them all
        return torch.rand(rows, below, generator=generator).argsort(1)[:, :size]
    drawn = torch.randint(0, below, (rows, size), generator=generator)
    while True:
        drawn = drawn.sort(1).values
        repeated = torch.zeros_like(drawn, dtype=torch.bool)
        repeated[:, 1:] = drawn[:, 1:] == drawn[:, :-1]
        count = int(repeated.sum())
        if count == 0:
            return drawn
        drawn[repeated] = torch.randint(0, below, (count,), generator=generator)


def _exact(d: int, nodes: int, m: int, generator: torch.Generator) -> Tensor:
    """Deal each feature H m / d times over the H nodes' m places; swap places until no node has it twice."""
    dealt = torch.arange(d).repeat_interleave(nodes * m // d)
    dealt = dealt[torch.randperm(len(dealt), generator=generator)]
    for _ in range(10_000):
        held, place = dealt.view(nodes, m).sort(1)
        twice = torch.zeros_like(held, dtype=torch.bool)
        twice[:, 1:] = held[:, 1:] == held[:, :-1]
        node, rank = twice.nonzero(as_tuple=True)
        if len(node) == 0:
            node_of = torch.arange(nodes).repeat_interleave(m)
            return node_of[dealt.argsort(stable=True)].view(d, -1)
        slots = node * m + place[node, rank]
        others = torch.randperm(len(dealt), generator=generator)[: len(slots)]
        for slot, other in zip(slots.tolist(), others.tolist(), strict=True):
            dealt[slot], dealt[other] = dealt[other].item(), dealt[slot].item()
    reject("m", f"small enough beside d = {d} for {nodes} nodes of m different features each", m)
