"""The sizes that the statements are measured at, and the networks and inputs made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.built import Kind, built_network
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting

Row = dict[str, Any]


@dataclass(frozen=True)
class TheoremSetting:
    """Sizes: d features, k active, H nodes; ``c_b`` = b_h / |U_h|; ``inputs`` draws of x, ``slope_inputs`` of them for
    the slopes; ``seeds``: repeats with everything drawn anew.

    Lemma 5.1 and Theorem 5.2 have ``pairs`` and Figure 4's setting ``figure`` of their own. The slopes of Theorem A.2
    have ``lean`` and ``lean_nodes``: few nodes for so many features, nearer to its premise. Proposition 6.1 has
    ``down`` and ``down_nodes``, heads from ``plenty`` of examples and from as few as ``fitted``, and the networks of
    ``inherit``, ``task`` and ``task_nodes``. ``statements`` picks among them by names or parts of them, with ;
    between them; empty: all."""

    data: SparseCoding = field(default_factory=lambda: SparseCoding(d=400, k=4, zeta=0.005))
    nodes: int = 2000
    ms: tuple[int, ...] = (1, 2, 4, 8)
    ks: tuple[float, ...] = (2.0, 4.0, 8.0)
    c_b: float = 0.03
    inputs: int = 300
    slope_inputs: int = 1000
    pairs: int = 40_000
    figure: Figure4Setting = field(default_factory=lambda: Figure4Setting(repeats=1))
    lean: SparseCoding = field(default_factory=lambda: SparseCoding(d=1000, k=4, zeta=0.005))
    lean_nodes: int = 2000
    down: SparseCoding = field(default_factory=lambda: SparseCoding(d=96, k=4, zeta=0.005))
    down_nodes: int = 480
    fitted: int = 3000
    plenty: int = 20_000
    task: SparseCoding = field(default_factory=lambda: SparseCoding(d=50, k=3, zeta=0.05))
    task_nodes: int = 250
    seeds: int = 5
    statements: str = ""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)


def network_of(
    setting: TheoremSetting, m: int, kind: Kind, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """U (d, H) with U 1 = 1, and b."""
    U = built_network(setting.data.d, setting.nodes, m, generator, kind).dense()
    return U, setting.c_b * torch.linalg.vector_norm(U, dim=0)


def inputs_of(setting: TheoremSetting, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x and z = x + noise in the feature basis."""
    x = setting.data.features(setting.inputs, generator)
    return x, setting.data.observe(x, None, generator)
