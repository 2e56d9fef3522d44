"""The inequalities: what follows from them, whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom.theory.patches.bounds import (
    largest_robust_eps,
    pair_sums,
    regime,
    robust_only_margin,
    smoothed,
)

strengths = st.floats(0.1, 20)


@given(strengths, strengths, st.floats(1.0, 3.0), st.integers(2, 500), st.integers(1, 20), st.integers(2, 5))
@settings(max_examples=300, deadline=None)
def test_eps_of_beta_and_more_contradicts_proposition_3_2(
    alpha: float, beta: float, factor: float, patches: int, robust_patches: int, q: int
) -> None:
    """Where the non-robust features dominate, no eps >= beta leaves a robust network (docs/patches.md)."""
    robust_patches = min(robust_patches, patches - 1)
    found = regime(alpha, beta, factor * beta, patches, robust_patches, q=q)
    if found.dominance > 1:
        assert found.slack < 1
        assert not found.possible


norms = st.lists(st.floats(0, 200), min_size=1, max_size=6)


@given(norms, norms, strengths, strengths, st.floats(1.0, 3.0), st.integers(2, 400), st.floats(0.5, 50))
@settings(max_examples=300, deadline=None)
def test_no_filters_of_any_norms_are_robust_for_two_classes_at_eps_of_beta(
    first: list[float],
    second: list[float],
    alpha: float,
    beta: float,
    factor: float,
    patches: int,
    rho: float,
) -> None:
    """The proposition of docs/patches.md: filters along u of any norms, in any region of s, classes unlike."""
    eps = factor * beta
    if regime(alpha, beta, eps, patches, 1).dominance > 1 and eps < alpha:
        sums = pair_sums((first, second), alpha, eps, patches, 1, rho=rho)
        assert sums.kept_y <= sums.raised_y
        assert sums.kept_j <= sums.raised_j
        assert not sums.robust_for_both


def test_below_beta_filters_robust_for_two_classes_exist() -> None:
    """The proposition's hypothesis is needed: at eps = .55 < beta = 1 the same sums leave room."""
    assert pair_sums(([3.0], [3.0]), 4.0, 0.55, 140, 1, rho=20.0).robust_for_both
    assert not pair_sums(([3.0], [3.0]), 4.0, 1.0, 140, 1, rho=20.0).robust_for_both


@given(st.floats(0.5, 20), st.integers(2, 500), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_slack_is_one_at_the_largest_robust_eps(alpha: float, patches: int, robust_patches: int) -> None:
    robust_patches = min(robust_patches, patches - 1)
    eps = largest_robust_eps(alpha, patches, robust_patches)
    assert float(regime(alpha, 1.0, eps, patches, robust_patches).slack) == pytest.approx(1, rel=1e-6)
    assert regime(alpha, 1.0, 0.99 * eps, patches, robust_patches).slack > 1
    # in the polynomial region the closed form changes sign there
    margins = [
        robust_only_margin(1e-3, alpha, factor * eps, patches, robust_patches, rho=20.0)
        for factor in (0.99, 1.01)
    ]
    assert margins[0] > 0 > margins[1]


def test_the_default_setting_lies_between_half_beta_and_the_largest_eps() -> None:
    assert largest_robust_eps(4.0, 140, 1) == pytest.approx(0.6459, abs=1e-4)
    eps = np.array([0.45, 0.49, 0.50, 0.55, 0.64, 0.65, 1.0])
    assert regime(4.0, 1.0, eps, 140, 1).possible.tolist() == [False, False, True, True, True, False, False]


def test_the_linear_region_takes_robustness_away() -> None:
    margins = robust_only_margin(np.array([3.0, 10.0, 30.0, 100.0]), 4.0, 0.52, 140, 1, rho=20.0)
    assert (margins > 0).tolist() == [True, True, False, False]


def test_smoothed_is_continuous_with_a_continuous_slope() -> None:
    z = np.array([-1e-6, 1e-6, 20 - 1e-6, 20 + 1e-6])
    value = smoothed(z, 20.0)
    assert value[:2].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert (value[3] - value[2]) / 2e-6 == pytest.approx(1, rel=1e-4)
