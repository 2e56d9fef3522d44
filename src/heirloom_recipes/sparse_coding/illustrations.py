"""Figures 1 to 3 of Xing et al., AISTATS 2024, computed on small networks instead of drawn by hand.

``heirloom reproduce inheritance/figure-1``, ``-2``, ``-3``: a second each. The scale changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.results.schema import Summary
from heirloom.runtime.randomness import generator_of
from heirloom.theory.sparse_coding.attack import unit
from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.gate_aware import highest_score
from heirloom.theory.sparse_coding.model import SparseCoding, random_dictionary
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom_recipes.illustrations import finish, heat, stems

D, K, NODES, MIXED, TAU = 12, 3, 96, 4, 5**0.5
RADII = (0.05, 0.3)  # below and above what opens a closed gate


def figure(name: str, scale: str, out: Path, *, seed: int = 0, **_: Any) -> Summary:
    """``figure-1``: the model; ``figure-2``: what an attack moves; ``figure-3``: similar and dissimilar pairs."""
    made = {"figure-1": _model, "figure-2": _purified, "figure-3": _pairs}[name](seed)
    return finish(out, name, seed, **made)


def _data(seed: int, n: int) -> Tensor:
    """X (n, D) with K active features each at least, in the feature basis (M = identity)."""
    x = SparseCoding(D, K, 0.0).features(20 * n, generator_of(seed, "illustration"))
    return x[(x != 0).sum(1) == K][:n]


def _model(seed: int) -> dict[str, Any]:
    data = SparseCoding(D, K, 0.05)
    generator = generator_of(seed, "figure-1")
    x, M = _data(seed, 1), random_dictionary(D, generator)
    z = data.observe(x, M, generator)
    panels = [
        stems("X: few features are active", "feature", x=x[0]),
        heat("M: unitary", "feature", "observed coordinate", M),
        stems("Z = M X + noise: all coordinates are", "observed coordinate", z=z[0]),
    ]
    back = z @ M
    rows = [
        {"vector": "X", "entries that are not 0": int((x != 0).sum()), "of": D},
        {"vector": "Z", "entries that are not 0": int((z != 0).sum()), "of": D},
        {
            "vector": "M^T Z, above half of the least active",
            "entries that are not 0": _above(back, x),
            "of": D,
        },
    ]
    says = "The response depends on a sparse X, but what is observed is Z, in which every feature is spread over all."
    return _made(
        "The sparse coding model (Figure 1)", says, panels, rows, {"d": D, "k": K, "zeta": data.zeta}
    )


def _above(back: Tensor, x: Tensor) -> int:
    return int((back.abs() > x[x != 0].abs().min() / 2).sum())


@dataclass(frozen=True)
class Small:
    """A built network in the feature basis: U (D, H), one intercept for all nodes, a = 1 with U a = 1."""

    U: Tensor
    b: float

    def code(self, z: Tensor) -> Tensor:
        """The contrastive representation sigma(z U) tau U^+, (n, D)."""
        return activate(z @ self.U, self.b)[0] @ (TAU * torch.linalg.pinv(self.U.double()).float())

    @property
    def scores(self) -> Scores:
        return Scores.of(self.U, torch.full((self.U.shape[1],), self.b), torch.ones(self.U.shape[1]))


def small(m: int, seed: int) -> Small:
    """A network with exactly m features in each node; its gate lies at an eighth of the least active feature."""
    built = built_network(D, NODES, m, generator_of(seed, "network", m), "exact")
    return Small(built.dense(), built.strength / 8 / K**0.5)


def _purified(seed: int) -> dict[str, Any]:
    x = _data(seed, 1)
    active = x[0] != 0
    panels, rows = [stems("X", "feature", x=x[0])], []
    for words, m in (("purified", 1), ("unpurified", MIXED)):
        scores = small(m, seed).scores
        slope = activate(scores.pull(x), scores.b)[1]
        for eps in RADII:
            gradient = eps * unit(scores.push(slope * scores.a), "L2")
            aware = highest_score(scores, x, eps)[1]
            for attack, delta in (("FGM", gradient), ("gate-aware", aware)):
                off = float(delta[0][~active].square().sum() / delta.square().sum())
                gain = float(scores(x + delta) - scores(x))
                row = {"nodes": words, "eps": eps, "attack": attack}
                rows.append(row | {"share on inactive features": off, "change of f": gain})
        title = f"attack at {RADII[-1]:g}, {words} nodes"
        panels.append(stems(title, "feature", FGM=gradient[0], gate_aware=aware[0]))
    says = (
        "An attack that follows the gradient moves only active features where nodes are purified, and inactive ones "
        "too where they are not, as the paper draws it. Once the radius can open a closed gate, one that sees gates "
        "moves the inactive features of purified nodes as well, which the gradient never shows."
    )
    settings = {
        "d": D,
        "k": K,
        "eps": list(RADII),
        "m": [1, MIXED],
        "gate": "1/8 of the least active feature",
    }
    return _made("What an attack moves (Figure 2)", says, panels, rows, settings)


def _pairs(seed: int) -> dict[str, Any]:
    x, eps = _data(seed, 8), 0.3
    other = next(one for one in x[1:] if not bool(((one != 0) & (x[0] != 0)).any()))
    net = small(MIXED, seed)
    panels, rows = [], []
    for words, partner, y in (("similar", x[:1], 1), ("dissimilar", other[None], -1)):
        z = x[:1].clone().requires_grad_(True)
        slope = activate(z.detach() @ net.U, net.b)[1]
        head = TAU * torch.linalg.pinv(net.U.double()).float()
        frozen = ((z @ net.U) * slope) @ head  # the gate's own slope, as the theory attacks it
        (gradient,) = torch.autograd.grad(-y * (frozen * net.code(partner)).sum(), z)
        moved = x[:1] + eps * unit(gradient, "L2")
        products = [(net.code(point) * net.code(partner))[0] for point in (x[:1], moved)]
        panels.append(
            stems(f"{words} pair: product by feature", "feature", clean=products[0], attacked=products[1])
        )
        losses = [float(functional.softplus(-y * product.sum())) for product in products]
        rows.append(
            {
                "pair": words,
                "loss clean": losses[0],
                "loss attacked": losses[1],
                "added": losses[1] - losses[0],
            }
        )
    says = (
        "What an attack adds to inactive features is multiplied by 0 where the partner is a view of the same data, and "
        "by an active feature where it is not."
    )
    settings = {"d": D, "k": K, "eps": eps, "m": MIXED, "tau^2": 5}
    return _made("Attacks on pairs (Figure 3)", says, panels, rows, settings)


def _made(title: str, says: str, panels: Any, rows: Any, settings: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "says": says, "panels": panels, "rows": rows, "settings": settings}
