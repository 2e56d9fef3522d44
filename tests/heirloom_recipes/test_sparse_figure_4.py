"""Figure 4: the sparse formulation against dense NumPy with a real dictionary, and against the paper."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom import InputError
from heirloom.theory.sparse_coding.built import BuiltNetwork, built_network
from heirloom.theory.sparse_coding.built_losses import SparseNetwork, gram
from heirloom.theory.sparse_coding.model import SparseCoding, random_dictionary
from heirloom_recipes.sparse_coding.figure_4 import (
    LOSSES,
    PAPER,
    TAU,
    Figure4Setting,
    figure_4,
    gate_width,
    intercept,
)
from heirloom_recipes.sparse_coding.readings import OVER, RATIOS, variants

SMALL = Figure4Setting(d=60, k=4, nodes=300, samples=70, repeats=2)


def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "sparse_coding.py"
    found = importlib.util.spec_from_file_location("benchmark_sparse_coding", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def case(
    setting: Figure4Setting, m: int, seed: int, zeta: float
) -> tuple[BuiltNetwork, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    data = SparseCoding(setting.d, setting.k, zeta)
    views = data.views(data.features(setting.samples, generator), None, generator)
    return built_network(setting.d, setting.nodes, m, generator, setting.kind), views


@pytest.mark.parametrize("m", [1, 2, 5, 10])
@pytest.mark.parametrize("gate", ["fitted", "printed"])
def test_agrees_with_dense_numpy_under_a_rotation(m: int, gate: str) -> None:
    """The dense formulation sees z = M x + xi and W = M U: agreement shows that M drops out, too."""
    setting = replace(SMALL, d=200, nodes=2000, samples=60, gate=gate)
    network, views = case(setting, m, m, zeta=0.005)
    ours = SparseNetwork(network, intercept(setting, m), TAU).losses(*views, eps=0.1)
    M = random_dictionary(setting.d, torch.Generator().manual_seed(9)).numpy()
    observed = tuple(view.numpy() @ M.T for view in views)
    dense = benchmark().dense_losses(network.dense().numpy(), M, observed, intercept(setting, m), TAU, 0.1)
    for name in LOSSES:
        assert float(getattr(ours, name).mean()) == pytest.approx(float(dense[name].mean()), abs=1e-4)
        # a gate within rounding of its bound may open on one side only: rare
        assert np.mean(np.abs(getattr(ours, name).numpy() - dense[name]) > 1e-3) <= 0.02


def test_gram_and_couplings_against_dense_products() -> None:
    network, _ = case(SMALL, 5, 0, 0.0)
    U = network.dense(torch.float64)
    assert torch.allclose(gram(network).double(), U @ U.T, atol=1e-6)
    x = SparseCoding(60, 4).features(1, torch.Generator().manual_seed(3))[0]
    active = x != 0
    on = (U[active] != 0).any(0).double()
    K = (U * on) @ U.T @ torch.linalg.inv(U @ U.T)
    gamma_1, gamma_2, off_diagonal = SparseNetwork(network, 0.01, TAU).couplings(x)
    both = K[~active][:, ~active]
    assert gamma_1 == pytest.approx(K[~active][:, active].mean().item(), rel=1e-3)
    assert gamma_2 == pytest.approx(both.mean().item(), rel=1e-3)
    count = len(both)
    assert off_diagonal == pytest.approx(
        ((both.sum() - both.trace()) / (count * (count - 1))).item(), rel=1e-2, abs=1e-6
    )


@given(st.integers(0, 1000), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
@settings(max_examples=25, deadline=None)
def test_attacked_losses_grow_with_eps_while_the_gates_stay(seed: int, one: float, other: float) -> None:
    network, views = case(SMALL, 5, seed, 0.005)
    sparse = SparseNetwork(network, intercept(SMALL, 5), TAU)
    small, large = (sparse.losses(*views, eps, frozen=True) for eps in sorted((one, other)))
    for pair in ("similar", "dissimilar"):
        attack = f"{pair}_adversarial"
        assert torch.all(getattr(small, attack) <= getattr(large, attack) + 1e-5)
        assert torch.all(getattr(small, f"{pair}_clean") <= getattr(small, attack) + 1e-5)


def test_the_frozen_attack_has_length_eps() -> None:
    """With the gates kept, g moves by eps norm(dg/dz) exactly, which only a step of length eps can do."""
    network, views = case(SMALL, 2, 0, 0.005)
    U, b = network.dense(torch.float64), intercept(SMALL, 2)
    z, _, other = (view.double() for view in views)
    A = TAU * torch.linalg.pinv(U)
    back = (torch.where((other @ U).abs() >= b, other @ U, 0.0) @ A) @ A.T
    gradient = (back * ((z @ U).abs() >= b)) @ U.T
    found = SparseNetwork(network, b, TAU).losses(*views, eps=0.2, frozen=True)
    moved = (
        found.dissimilar_adversarial.double().expm1().log() - found.dissimilar_clean.double().expm1().log()
    )
    assert torch.allclose(moved, 0.2 * gradient.norm(dim=1), atol=2e-3)


def test_three_repeats_at_the_papers_size() -> None:
    """Increments and gamma_1 lie within five standard errors of the paper's, whose tables have 30 repeats."""
    found = figure_4(replace(Figure4Setting(), repeats=3), seed=1)
    for row in found.rows():
        paper, three = row["paper"], math.sqrt(1 / 3 + 1 / 30)
        assert abs(row["increment"].value - paper["increment"]) < 5 * 0.003 * three + 0.005 * (row["m"] == 10)
        assert abs(row["gamma_1"].value - paper["gamma_1"].value) < 5 * paper["gamma_1"].sd * three
        assert abs(row["gamma_2"].value - paper["gamma_2"].value) < 5 * paper["gamma_2"].sd * three
        assert (
            row["gamma_2_off_diagonal"].value < 0 < row["gamma_2"].value
        )  # the text's i != j cannot be meant
        for name in LOSSES:
            assert abs(row[name].value - paper[name].value) < 5 * paper[name].sd * three
    assert found.slopes()["gamma_1"] == pytest.approx(1, abs=0.05)
    assert found.slopes()["gamma_2"] < 1  # far from the 2 that gamma_2 = gamma_1 squared would need


def test_truly_pure_nodes_lose_far_less_than_m_equal_1_on_average() -> None:
    pure = figure_4(replace(Figure4Setting(), repeats=1, ms=(1,), kind="exact"), seed=2).values[1][
        "increment"
    ][0]
    average = figure_4(replace(Figure4Setting(), repeats=1, ms=(1,)), seed=2).values[1]["increment"][0]
    assert pure < average / 3


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    assert figure_4(SMALL, 3).values == figure_4(SMALL, 3).values
    assert figure_4(SMALL, 3).values != figure_4(SMALL, 4).values


def test_theta_is_b_the_other_way_round() -> None:
    """U = theta U_1 with A = tau W^+ gives the same g at b / theta: moving b moves theta too."""
    moved, divided = (figure_4(replace(SMALL, **change)) for change in ({"theta": 1.25}, {"b_scale": 0.08}))
    for m, columns in moved.values.items():
        assert columns["increment"] == pytest.approx(divided.values[m]["increment"], rel=1e-3)


def test_readings_move_one_recovered_number_and_reach_below_the_gate() -> None:
    found = variants(SMALL, 2)
    assert {reading.eps / SMALL.eps for name, reading in found if name.startswith("eps")} == {0.98, 1.02}
    b = [reading.b_scale for name, reading in found if name.startswith("b ")]
    assert b == pytest.approx([0.097, 0.103])
    over = [reading for name, reading in found if name == OVER]
    ratios = [round(one.eps / gate_width(one, one.ms[0]), 6) for one in over]
    assert ratios == [*RATIOS, *RATIOS]
    assert [name for name, _ in variants(SMALL, 2, "2 %")] == ["eps - 2 %", "eps + 2 %"]
    # the gate that F.4 speaks of, from the network itself
    network = built_network(SMALL.d, SMALL.nodes, 5, torch.Generator().manual_seed(0), "exact").dense()
    assert gate_width(SMALL, 5) == pytest.approx(
        intercept(SMALL, 5) / float(network.norm(dim=0)[0]), rel=1e-5
    )


def test_paper_tables_are_as_printed() -> None:
    assert PAPER[10]["dissimilar_adversarial"] == (0.9869, 0.0264)
    assert PAPER[2]["gamma_1"] == (1.87e-3, 1.15e-4)
    assert "paper" not in figure_4(SMALL, 0).rows()[0]


@pytest.mark.parametrize("change", [{"eps": 0.0}, {"repeats": 0}, {"gate": "tight"}, {"samples": 1}])
def test_wrong_settings_are_told(change: dict) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SMALL, **change)


def test_benchmark_runs_small() -> None:
    module = benchmark()
    row = module.compare(replace(SMALL, d=100, nodes=1000), 2, 0)
    assert row["largest_difference"] < 1e-4
    assert row["dense_seconds"] > 0
    assert module.floor(SMALL, 2)["list_adds"] == 11 * 70 * 300 * 2
