"""Closed forms of what FGM sees, against networks."""

import math

import pytest
import torch

from heirloom.theory.sparse_coding.built import Kind, built_network
from heirloom.theory.sparse_coding.losses import loss_of
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.rates import Seen, psi, seen_by_chance, seen_by_groups
from heirloom.theory.sparse_coding.settings import Loss


def lengths(kind: Kind, d: int, nodes: int, m: int, k: float) -> Seen:
    """|g| counted on networks: a node is on when one of its features is active."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(8):
        U = built_network(d, nodes, m, generator, kind).dense()
        active = (torch.rand(4000, d, generator=generator) < k / d).float()
        found.append(torch.linalg.vector_norm(((active @ U > 0).float() @ U.T), dim=1))
    return Seen.of(torch.cat(found))


@pytest.mark.parametrize(("m", "k"), [(1, 3.0), (3, 3.0), (6, 5.0)])
def test_what_is_seen_is_what_networks_show(m: int, k: float) -> None:
    """At m = 6 more leaked entries meet than not, so that the squares of p count."""
    d, nodes = 60, 120
    for counted, closed in (
        (lengths("exact", d, nodes, m, k), seen_by_chance(d, k, m, 1.0, d / (nodes * m))),
        (lengths("grouped", d, nodes, m, k), seen_by_groups(d, k, m)),
    ):
        assert counted.length == pytest.approx(closed.length, rel=0.01)
        assert counted.square == pytest.approx(closed.square, rel=0.015)
    alone = seen_by_chance(d, k, m, 0.0, 0.0)  # nothing leaks: the K active features
    assert alone.square == pytest.approx(k)
    assert alone.length == pytest.approx(seen_by_groups(d, k, 1).length)


@pytest.mark.parametrize("loss", ["square", "absolute"])
def test_what_is_added_on_pure_nodes_is_that_of_the_linear_map(loss: Loss) -> None:
    """eps under the gate: the active features' gates stay open, the others' stay shut."""
    data, sigma, eps = SparseCoding(d=50, k=3, zeta=0.005), 0.1, 0.02
    generator = torch.Generator().manual_seed(1)
    x = data.features(40_000, generator)
    y = x.sum(1) + sigma * torch.randn(len(x), generator=generator)
    z = data.observe(x, None, generator)
    scores = Scores.of(torch.eye(50), torch.full((50,), 0.06), torch.ones(50))
    clean, derivative = loss_of(loss, scores(z), y)
    direction = (x != 0).float() * derivative.sign()[:, None]
    moved = z + eps * direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp_min(1e-9)
    added = float((loss_of(loss, scores(moved), y)[0] - clean).double().mean())
    assert added == pytest.approx(seen_by_groups(50, 3, 1).added(loss, eps, sigma), rel=0.02)


def test_psi_is_equation_14() -> None:
    assert psi(100, 10.0, 1000, 2) == pytest.approx(1000 * 8 * 1000 * math.log(10) ** 2 / 1e4 + 0.1**0.5)
