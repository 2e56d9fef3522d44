"""Clean-trained heads on frozen nodes."""

import numpy as np
import torch

from heirloom.theory.sparse_coding import downstream as heads
from heirloom.theory.sparse_coding.built import mixture
from heirloom.theory.sparse_coding.losses import intercepts
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.settings import SparseTraining

DATA = SparseCoding(d=12, k=2, zeta=0.05)
SMALL = SparseTraining(data=DATA, nodes=30, steps=12, batch=40, init=0.3)


def test_the_head_is_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    features, y = torch.randn(200, 9, generator=generator), torch.randn(200, generator=generator)
    expected = np.linalg.lstsq(features.numpy(), y.numpy(), rcond=None)[0]
    assert np.allclose(heads.ridge_head(features, y).numpy(), expected, atol=1e-4)


EPSILONS = {"0.05": 0.05, "0.1": 0.1, "0.3": 0.3}


def built(share: float, gate_aware: dict[str, float], data: SparseCoding = DATA) -> heads.Downstream:
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    U = torch.stack([mixture(12, 36, share, generator) for generator in generators])
    M = torch.eye(12).expand(3, 12, 12)
    attacks = heads.Attacks(EPSILONS, {"0.3": 0.3}, gate_aware, heads.Effort(60, 1))
    return heads.downstream(U, intercepts(U, 0.03), M, data, range(3), attacks, size=(2000, 1000))


def test_gap_of_pure_nodes_is_the_closed_form_and_below_mixed_ones() -> None:
    """Square loss: L_eps - L_0 = E[2 eps |r| |theta_X| + (eps |theta_X|)^2] up to gates that flip."""
    pure, mixed = built(1.0, {}).gaps, built(0.0, {}).gaps
    assert torch.all(pure["gap_0.1"] > pure["gap_0.05"])
    assert torch.all(pure["gap_0.3"] > pure["gap_0.1"])
    assert torch.all(pure["gap_0.3"] < mixed["gap_0.3"])
    # E theta_i^2 = 13/12, E number active = k = 2, E|r| = sigma sqrt(2/pi), sigma = .1
    bound = 0.3**2 * 2 * 13 / 12
    assert 0.5 * bound < float(pure["gap_0.3"].mean()) < 2.5 * bound


def test_purity_hides_the_gap_from_fgm_and_not_from_an_attack_that_sees_gates() -> None:
    """eps = .3 is ten times the gate: the head on pure nodes is as open as the linear map, FGM says a third."""
    quiet = SparseCoding(d=12, k=2, zeta=0.01)
    gaps = built(1.0, {"0.01": 0.01, "0.3": 0.3}, quiet).gaps
    assert torch.all(gaps["gap_0.3"] < 0.45 * gaps["gap_0.3_linear"])
    assert torch.all(gaps["gap_0.3_pgd"] < 0.5 * gaps["gap_0.3_gate_aware"])
    assert torch.all(gaps["gap_0.3_gate_aware"] > 0.75 * gaps["gap_0.3_linear"])
    for eps in ("0.01", "0.3"):
        assert torch.all(gaps[f"gap_{eps}_gate_aware"] <= gaps[f"gap_{eps}_bound"])
    # far inside the gate (Lemma F.4) purity is real: a fraction of the open map, and the bound proves it
    assert torch.all(gaps["gap_0.01_bound"] < 0.6 * gaps["gap_0.01_linear"])


def test_mixture_has_the_share_asked_for() -> None:
    U = mixture(12, 40, 0.25, torch.Generator().manual_seed(0), mixed=4)
    counts = (U != 0).sum(0)
    assert (counts == 1).sum() == 10
    assert (counts == 4).sum() == 30
    assert torch.allclose(U.norm(dim=0), torch.ones(40))
