"""Both sides of the paper's statements, against loops and closed forms."""

import math

import pytest
import torch

from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.built_losses import SparseNetwork
from heirloom.theory.sparse_coding.flips import most_flips
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.statements import (
    coupling_entries,
    first_order_increment,
    gate_flips,
    linear_contrastive_loss,
    linf_terms,
    membership,
    symmetrised_relu,
)

U = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])


def test_gate_flips_counts_pair_by_pair() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    moved = torch.tensor([[0.1, 0.4, 0.0, 0.0], [0.0, 0.1, 0.0, 0.0]])
    flips = gate_flips(U, torch.full((3,), 0.5), x, moved)
    # x_1 is active in nodes 0 (now .1: closed) and 2 (now .5: on); node 1 of the first input opened at .8
    assert flips.closed == pytest.approx(1 / 2)
    assert flips.opened == pytest.approx(1 / 4)
    assert flips.any_flip == pytest.approx(1 / 2)


def test_most_flips_is_the_cheapest_gates_first_on_pure_nodes_and_never_fewer_than_a_dense_step() -> None:
    """Lemma F.4 fails from c_b on: the ball holds the cheapest features, counted here by sorting."""
    generator = torch.Generator().manual_seed(0)
    pure, c = torch.eye(40).repeat(1, 3), 0.03
    z = 0.02 * torch.randn(8, 40, generator=generator)
    z[:, 0] = 1.0
    for ratio in (0.1, 1.0, 3.0, 5.0):
        moved = z + most_flips(pure, torch.full((120,), c), z, ratio * c)
        assert float((moved - z).norm(dim=1).max()) <= ratio * c * (1 + 1e-5)
        flipped = ((moved.abs() >= c) != (z.abs() >= c)).sum(1)
        costs = (z.abs() - c).abs().mul(1.002).sort(1).values.square().cumsum(1)
        assert torch.all(flipped >= (costs <= (ratio * c) ** 2).sum(1))
    mixed = torch.rand(40, 120, generator=generator)
    b, step = 0.5 * mixed.norm(dim=0), mixed.sum(1)
    dense = z + 5 * step / step.norm()
    found = z + most_flips(mixed, b, z, 5.0)
    for moved in (dense, found):
        assert ((moved @ mixed).abs() >= b).sum() >= 0.9 * 8 * 120


def test_equation_2_is_exact_while_no_gate_moves() -> None:
    z = torch.tensor([[2.0, 1.0, 0.0, 1.0]])
    scores = Scores.of(U, torch.full((3,), 0.1), torch.ones(3))
    measured, predicted = first_order_increment(scores, z, torch.tensor([0.0]), 0.01)
    assert measured.item() == pytest.approx(predicted.item(), rel=1e-4)
    f, length = float(scores(z)), float((U @ torch.ones(3)).norm())
    assert predicted.item() == pytest.approx((f + 0.01 * length) ** 2 - f**2, rel=1e-4)


def test_linf_terms_meet_their_ends() -> None:
    a, x = torch.ones(3), torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    lower, middle, upper = linf_terms(U, a, x, torch.full((3,), 0.5), torch.eye(4))
    assert lower.tolist() == [8.0, 3.0]  # theta = (2, 3, 0, 3)
    assert upper == 8.0
    assert middle.tolist() == [8.0, 7.0]  # nodes 1 and 2 are on for the second: (1, 3, 0, 3)


def test_membership_of_a_pure_network_is_its_ratios() -> None:
    d, k, c_b = 100, 4, 0.1
    found = membership(torch.eye(d).repeat(1, 5), torch.full((5 * d,), c_b), k)
    assert found.below == pytest.approx(1 / math.sqrt(k) / c_b)
    assert found.above == pytest.approx(c_b * math.sqrt(k) * math.log(d))
    # below x above is log d whatever b is: "much smaller" twice within a factor of log d
    assert found.below * found.above == pytest.approx(math.log(d))
    assert (found.sparse, found.wide, found.level, found.same_sign) == (25, 5, 1, True)
    assert not membership(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.ones(2), 1).same_sign


def test_symmetrised_relu_is_the_gate_shrunk_by_b() -> None:
    v = torch.linspace(-2, 2, 41)
    gate = torch.where(v.abs() >= 0.5, v, 0.0)
    assert torch.allclose(symmetrised_relu(v, 0.5), gate - 0.5 * v.sign() * (v.abs() >= 0.5), atol=1e-6)


def test_lemma_5_1_in_two_dimensions() -> None:
    """All sign patterns of x and x' once: among D of trace 2 the flat one is best."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 4)
    losses = {
        share: float(
            linear_contrastive_loss(torch.tensor([share, 2 - share]), signs[:, :2], signs[:, 2:]).mean()
        )
        for share in (0.2, 0.6, 0.9, 1.0, 1.1, 1.4, 1.8)
    }
    assert min(losses, key=losses.__getitem__) == 1.0
    assert losses[0.2] == pytest.approx(losses[1.8])


def test_coupling_entries_against_dense_products() -> None:
    network = built_network(40, 200, 4, torch.Generator().manual_seed(0))
    dense, x = network.dense(torch.float64), torch.zeros(40)
    x[[3, 17]] = 0.5
    on = (dense[x != 0] != 0).any(0).double()
    K = (dense * on) @ dense.T @ torch.linalg.inv(dense @ dense.T)
    inactive = [i for i in range(40) if i not in (3, 17)]
    second = torch.stack([K[i, j] for i in inactive for j in inactive if i != j])
    found = coupling_entries(SparseNetwork(network, 0.01, 1.0), x)
    assert found.mean_1 == pytest.approx(K[inactive][:, [3, 17]].mean().item(), rel=1e-4)
    assert found.mean_2 == pytest.approx(second.mean().item(), rel=1e-3)
    assert found.rms_2 == pytest.approx(second.square().mean().sqrt().item(), rel=1e-4)
    assert found.rms_2 > 3 * abs(found.mean_2)  # signs cancel in the mean
