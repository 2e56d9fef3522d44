"""Lemma 4.2: the bounds hold, and are equalities exactly where the paper says so."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom import InputError
from heirloom.theory.sparse_coding.bounds import lemma_4_2
from heirloom.theory.sparse_coding.built import KINDS, built_network
from heirloom.theory.sparse_coding.model import SparseCoding


@given(st.sampled_from(KINDS), st.sampled_from([1, 2, 4]), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_bounds_hold_on_built_networks(kind: str, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    U = built_network(24, 96, m, generator, kind).dense()  # type: ignore[arg-type]
    signs = torch.randint(0, 2, (24, 1), generator=generator) * 2.0 - 1  # same sign for the same feature
    theta = 0.5 + torch.rand(24, 1, generator=generator)
    # magnitudes below 1 are continuous, so no two active features cancel exactly
    x = SparseCoding(d=24, k=3, zeta=0).features(20, generator) * (
        1 + 0.01 * torch.rand(20, 24, generator=generator)
    )
    found = lemma_4_2(signs * theta * U, torch.ones(96), x)
    assert found.violations() == 0
    assert found.upper == pytest.approx(theta.norm().item(), rel=1e-5)
    if m == 1 and kind != "random":  # pure nodes: the left equality
        assert torch.allclose(found.middle, found.lower, rtol=1e-5)


def test_all_nodes_on_gives_the_right_equality() -> None:
    generator = torch.Generator().manual_seed(0)
    U = built_network(20, 60, 3, generator).dense()
    found = lemma_4_2(U, torch.ones(60), torch.rand(5, 20, generator=generator) + 0.5)
    held = (U != 0).any(0)
    assert held.all() or U[:, ~held].abs().sum() == 0
    assert torch.allclose(found.middle, torch.full((5,), found.upper, dtype=torch.float64), rtol=1e-6)


def test_a_shut_gate_breaks_the_lower_bound_and_is_counted() -> None:
    found = lemma_4_2(torch.eye(3), torch.ones(3), torch.tensor([[0.5, 0.0, 0.0]]), b=0.6)
    assert found.middle.item() == 0
    assert found.violations() == 1


def test_noise_opens_gates_but_adds_no_active_feature() -> None:
    x, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    found = lemma_4_2(torch.eye(2), torch.ones(2), x, b=0.5, noise=noise)
    assert found.lower.item() == 1
    assert found.middle.item() == pytest.approx(2**0.5)


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="a must be of shape"):
        lemma_4_2(torch.eye(3), torch.ones(2), torch.ones(1, 3))
    with pytest.raises(InputError, match="x must be of shape"):
        lemma_4_2(torch.eye(3), torch.ones(3), torch.ones(1, 4))
