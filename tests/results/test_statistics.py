"""Intervals hold what they promise: coverage computed exactly or simulated, over a grid of p and n."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from heirloom import InputError
from heirloom.results.statistics import interval, mean, paired_difference, proportion


def verdicts(right: int, n: int) -> torch.Tensor:
    return torch.arange(n) < right


@pytest.mark.parametrize("n", [50, 100, 200, 500, 1000])
def test_coverage_is_93_to_97_percent_at_every_p_with_ten_of_each_kind(n: int) -> None:
    counts = np.arange(n + 1)
    ends = np.array([interval(int(k), n) for k in counts])
    for p in np.linspace(10 / n, 1 - 10 / n, 101):
        inside = (ends[:, 0] <= p) & (p <= ends[:, 1])
        # no simulation: the binomial's own probabilities of the counts whose interval holds p
        assert 0.93 <= binom.pmf(counts, n, p)[inside].sum() <= 0.97


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_simulated_coverage_of_proportion(p: float) -> None:
    generator = torch.Generator().manual_seed(round(100 * p))
    hits = 0
    for _ in range(2000):
        found = proportion(torch.rand(400, generator=generator) < p)
        hits += found.low <= p <= found.high
    # the exact coverage lies in [.93, .97]; three binomial standard deviations of 2000 draws are .017
    assert 0.93 - 0.017 <= hits / 2000 <= 0.97 + 0.017


@pytest.mark.parametrize("n", [1, 8, 64, 1000])
def test_at_0_and_100_percent_the_interval_is_not_a_point(n: int) -> None:
    none, every = proportion(verdicts(0, n)), proportion(verdicts(n, n))
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(1 - every.low)
    # the rule of three says that 3/n is the 95 % upper bound; a two-sided interval lies near it
    assert 1.5 / (n + 2) < none.high
    assert none.high < 5 / n


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=80, deadline=None)
def test_interval_is_the_beta_quantile_and_holds_the_value(case: tuple[int, int]) -> None:
    right, n = case
    found = proportion(verdicts(right, n))
    assert found.low <= found.value <= found.high
    if 0 < right < n:
        expected = beta.ppf([0.025, 0.975], right + 0.5, n - right + 0.5)
        assert np.allclose([found.low, found.high], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("n", "only_first", "only_second"),
    [(100, 0.1, 0.05), (300, 0.02, 0.02), (300, 0.3, 0.05), (1000, 0.1, 0)],
)
def test_simulated_coverage_of_the_paired_difference(n: int, only_first: float, only_second: float) -> None:
    random = np.random.default_rng(n)
    hits, seen = 0, {}
    for first, second, _ in random.multinomial(
        n, [only_first, only_second, 1 - only_first - only_second], 2000
    ):
        if (first, second) not in seen:
            a, b = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
            a[:first], b[first : first + second] = True, True
            seen[first, second] = paired_difference(a, b)
        found = seen[first, second]
        hits += found.low <= only_first - only_second <= found.high
    assert 0.93 - 0.017 <= hits / 2000 <= 0.97 + 0.017


def test_pairing_narrows_the_interval_of_alike_models() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(500, generator=generator) < 0.6
    second = first.clone()
    second[:10] = ~second[:10]
    found = paired_difference(first, second)
    alone = proportion(first)
    assert found.high - found.low < (alone.high - alone.low) / 2
    assert found.value == pytest.approx(float(first.double().mean() - second.double().mean()))


def test_models_that_never_disagree_still_have_an_open_interval() -> None:
    found = paired_difference(verdicts(5, 20), verdicts(5, 20))
    assert found.value == 0
    assert found.low < 0 < found.high


def test_mean_keeps_the_spread_over_seeds() -> None:
    found = mean([0.4, 0.5, 0.6])
    assert (found.value, found.sd, found.n) == (pytest.approx(0.5), pytest.approx(0.1), 3)
    assert mean([0.4]).sd == 0


def test_wrong_inputs_are_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match="correct must be of shape"):
        proportion(torch.zeros(0, dtype=torch.bool))
    with pytest.raises(InputError, match="second must be of shape"):
        paired_difference(verdicts(1, 3), verdicts(1, 4))
    with pytest.raises(InputError, match="values must be at least one number"):
        mean([])
