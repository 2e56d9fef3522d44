"""Networks built with a controlled number of features per node (Xing et al., AISTATS 2024, E.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from heirloom.runtime.errors import reject, require

Kind = Literal["random", "exact", "grouped"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MIXED = 5  # features in each node of a mixture that is not pure


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


def mixture(d: int, nodes: int, share: float, generator: torch.Generator, mixed: int = MIXED) -> Tensor:
    """U (d, H) with nodes of norm 1: ``share`` of them hold one feature, the others ``mixed`` at random.

    Pure nodes take the features in turn, so that H >= d pure ones hold them all.
    """
    pure = round(share * nodes)
    U = torch.zeros(nodes, d)
    turn = torch.randperm(d, generator=generator).repeat(-(-nodes // d))
    U[:pure].scatter_(1, turn[:pure, None], 1.0)
    joined = torch.rand(nodes - pure, d, generator=generator).argsort(1)[:, :mixed]
    U[pure:].scatter_(1, joined, mixed**-0.5)
    return U.T.contiguous()


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
