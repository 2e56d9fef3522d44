"""Two-layer networks: activations against autograd and their formulas, built networks against E.1's counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from heirloom import InputError
from heirloom.theory.sparse_coding.built import KINDS, built_network
from heirloom.theory.sparse_coding.network import ACTIVATIONS, TwoLayer, activate


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gate", lambda v, e: torch.where(v.abs() >= e, v, 0.0)),
        ("relu", lambda v, e: functional.relu(v - e)),
        ("tanh", lambda v, e: torch.tanh(v)),
        ("gelu", lambda v, e: functional.gelu(v - e)),
        ("silu", lambda v, e: functional.silu(v - e)),
    ],
)
def test_activations_and_slopes(name: str, formula) -> None:
    v = (3 * torch.randn(500, dtype=torch.float64, generator=generator(0))).requires_grad_()
    e = torch.rand(500, dtype=torch.float64, generator=generator(1))
    value, slope = activate(v.detach(), e, name)  # type: ignore[arg-type]
    reference = formula(v, e)
    assert torch.allclose(value, reference.detach())
    assert torch.allclose(slope, torch.autograd.grad(reference.sum(), v)[0])


def test_the_gate_is_open_at_its_bound_and_odd() -> None:
    v = torch.tensor([-0.5, -0.49, 0.0, 0.49, 0.5])
    assert activate(v, 0.5)[0].tolist() == [-0.5, 0.0, 0.0, 0.0, 0.5]


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match="activation must be one of gate"):
        activate(torch.zeros(1), 0.0, "softplus")  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_is_the_sum_over_nodes(activation: str) -> None:
    W, b, a = torch.randn(4, 6, generator=generator(0)), torch.rand(6), torch.randn(6, generator=generator(1))
    z = torch.randn(3, 4, generator=generator(2))
    network = TwoLayer(W, b, a, activation)  # type: ignore[arg-type]
    by_node = [sum(a[h] * activate(row @ W[:, h], b[h], activation)[0] for h in range(6)) for row in z]  # type: ignore[arg-type]
    assert torch.allclose(network(z), torch.stack(by_node), atol=1e-5)
    assert network.hidden(z).shape == (3, 6)
    assert TwoLayer(W, b, torch.randn(6, 2))(z).shape == (3, 2)


@given(st.sampled_from(KINDS), st.integers(2, 9), st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_built_networks_have_the_counts_of_e1(kind: str, groups: int, m: int, times: int, seed: int) -> None:
    d, nodes = groups * m, groups * m * times
    network = built_network(d, nodes, m, generator(seed), kind)  # type: ignore[arg-type]
    U = network.dense(torch.float64)
    assert U.shape == (d, nodes)
    held = U != 0
    assert torch.all(held.sum(1) == nodes * m // d)  # each feature joins H m / d different nodes
    assert torch.allclose(U.sum(1), torch.ones(d, dtype=torch.float64))
    assert held.double().mean(1).sum() * nodes / nodes == pytest.approx(m)
    if kind != "random":
        assert torch.all(held.sum(0) == m)
    if kind == "grouped":
        assert len(held.unique(dim=0)) == d // m
    # the two lists say the same
    rebuilt = torch.zeros_like(U)
    for h in range(nodes):
        rebuilt[network.joined[network.offsets[h] : network.offsets[h + 1]], h] = network.strength
    assert torch.equal(rebuilt, U)


def test_random_membership_is_uniform() -> None:
    members = built_network(400, 1000, 4, generator(3)).members
    counts = torch.bincount(members.flatten(), minlength=1000).double()
    # each node holds Binomial(400, 10 / 1000) features: dispersion 1 - p, its spread sqrt(2 / H)
    assert counts.var().item() / 4 == pytest.approx(0.99, abs=5 * (2 / 1000) ** 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((10, 25, 1), "H m must be a multiple of d = 10"),
        ((10, 20, 11), "m must be from 1 to d = 10"),
        ((10, 20, 4, "grouped"), "m must be a divisor of d = 10"),
        ((10, 20, 2, "dense"), "kind must be one of"),
    ],
)
def test_impossible_networks_are_told(arguments: tuple, said: str) -> None:
    d, nodes, m, *kind = arguments
    with pytest.raises(InputError, match=said):
        built_network(d, nodes, m, generator(0), *kind)
