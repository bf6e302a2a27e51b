"""Kendall's τ against scipy's and against counting."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mlptheory.base import InputError
from mlptheory.stats import kendall_tau


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_it_is_scipys(n, ties):
    rng = np.random.default_rng(n)
    for _ in range(20):
        x, y = rng.normal(size=(2, n))
        if ties:
            x, y = np.round(x), np.round(y)
        assert float(kendall_tau(x, y)) == pytest.approx(stats.kendalltau(x, y).statistic, nan_ok=True, abs=1e-14)


def test_without_ties_it_counts_pairs():
    x, y = np.random.default_rng(0).normal(size=(2, 7))
    pairs = list(itertools.combinations(range(7), 2))
    agreeing = sum((x[i] < x[j]) == (y[i] < y[j]) for i, j in pairs)
    assert float(kendall_tau(x, y)) == pytest.approx((2 * agreeing - len(pairs)) / len(pairs), abs=1e-15)


def test_it_goes_along_the_last_axis_and_broadcasts():
    x, y = np.random.default_rng(1).normal(size=(4, 3, 5)), np.random.default_rng(2).normal(size=(3, 5))
    found = kendall_tau(x, y)
    assert found.shape == (4, 3)
    assert found[2, 1] == kendall_tau(x[2, 1], y[1])


def test_nothing_where_a_value_is_missing_or_all_are_equal():
    assert np.isnan(kendall_tau([1.0, np.nan, 3.0], [1.0, 2.0, 3.0]))
    assert np.isnan(kendall_tau([1.0, 1.0], [1.0, 2.0]))


def test_of_gaussian_pairs_its_mean_is_that_of_the_arcsine():
    rng, rho = np.random.default_rng(3), 0.6
    x, noise = rng.normal(size=(2, 20000, 4))
    found = kendall_tau(x, rho * x + np.sqrt(1 - rho**2) * noise)
    assert found.mean() == pytest.approx(2 / np.pi * np.arcsin(rho), abs=4 * found.std() / np.sqrt(len(found)))


@pytest.mark.parametrize(("x", "y"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), (1.0, [1.0, 2.0])])
def test_too_few_pairs_are_refused(x, y):
    with pytest.raises(InputError, match="as many pairs in both, at least 2"):
        kendall_tau(x, y)
