import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import contrast_interval, difference_interval, linear_trend_coefficients, mean_interval


def table(blocks=5, arms=4, seed=0):
    rng = generator(seed, "test table", blocks, arms)
    return rng.normal(size=(blocks, arms)) + rng.normal(0, 10, size=(blocks, 1)) + np.arange(arms)


def pooled_twin(y, c, level=0.95):
    """Dummy-coded least squares over the cells that are there, first block and first arm as reference."""
    blocks, arms = y.shape
    cells = [(b, j) for b in range(blocks) for j in range(arms) if not np.isnan(y[b, j])]
    rows = [
        [1.0] + [float(b == k) for k in range(1, blocks)] + [float(j == k) for k in range(1, arms)] for b, j in cells
    ]
    x, observed = np.array(rows), np.array([y[cell] for cell in cells])
    beta, residual, rank, _ = np.linalg.lstsq(x, observed)
    assert rank == x.shape[1]
    df = len(observed) - rank
    weights = np.concatenate([np.zeros(blocks), np.asarray(c, float)[1:]])
    variance = residual[0] / df * weights @ np.linalg.inv(x.T @ x) @ weights
    half = scipy_stats.t.ppf((1 + level) / 2, df) * math.sqrt(variance)
    return weights @ beta, half, df


@pytest.mark.parametrize(
    "x", [[0, 1], [6, 8, 10, 12], [1, 2, 4, 8, 9.5], [3, 3, 7], [1e-8, 2e-8, 4e-8], [1e200, 3e200, 2e200]]
)
def test_trend_is_the_fitted_change_over_the_range(x):
    y = generator(1, "test trend").normal(size=len(x))
    scaled = np.asarray(x) / np.ptp(x)  # the change over the range does not depend on the unit of x
    slope = np.polynomial.Polynomial.fit(scaled, y, 1).convert().coef[1]
    coefficients = linear_trend_coefficients(x)
    assert coefficients @ y == pytest.approx(slope * np.ptp(scaled), rel=1e-9)
    assert coefficients.sum() == pytest.approx(0, abs=1e-12)


def test_trend_of_two_arms_is_their_difference():
    assert linear_trend_coefficients([64, 4096]).tolist() == [-1, 1]


def test_per_block_is_the_t_interval_of_the_blocks_contrasts():
    y, c = table(), linear_trend_coefficients([6, 8, 10, 12])
    ours, theirs = contrast_interval(y, c, level=0.9), mean_interval([row @ c for row in y], level=0.9)
    assert (ours.low, ours.high, ours.df) == pytest.approx((theirs.low, theirs.high, 4))


def test_two_arms_give_the_paired_interval_in_both_models():
    y = table(arms=2)
    paired = difference_interval(y[:, 1], y[:, 0], paired=True)
    for model in ("per_block", "pooled"):
        ours = contrast_interval(y, [-1, 1], model=model)
        assert (ours.low, ours.high, ours.df) == pytest.approx((paired.low, paired.high, paired.df))


@pytest.mark.parametrize(("blocks", "arms"), [(2, 2), (2, 3), (5, 4), (8, 3)])
def test_pooled_is_two_way_analysis_of_variance(blocks, arms):
    y, c = table(blocks, arms), linear_trend_coefficients(range(arms))
    ours = contrast_interval(y, c, model="pooled")
    residual = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    df = (blocks - 1) * (arms - 1)
    assert ours.df == df
    assert ours.estimate == pytest.approx(y.mean(axis=0) @ c)
    assert ours.standard_error == pytest.approx(math.sqrt((residual**2).sum() / df * (c @ c) / blocks))


@pytest.mark.parametrize(
    "missing", [[(0, 0)], [(1, 2), (3, 0)], [(0, 1), (0, 2), (4, 3), (2, 2)], [(0, 0), (0, 1), (0, 2)]]
)
@pytest.mark.parametrize("c", [[-1, 0, 0, 1], [-0.9, -0.3, 0.3, 0.9], [1, -1, 0, 0]])
def test_pooled_with_missing_cells_equals_least_squares(missing, c):
    y = table()
    for cell in missing:
        y[cell] = math.nan
    estimate, half, df = pooled_twin(y, c)
    ours = contrast_interval(y, c, model="pooled")
    assert ours.estimate == pytest.approx(estimate, rel=1e-9)
    assert ours.high - ours.estimate == pytest.approx(half, rel=1e-8)
    assert ours.df == df


def test_pooled_keeps_digits_under_large_block_effects():
    y = table()
    shifted = y + np.array([[1e6], [-1e6], [3e6], [0.0], [2e6]])
    ours, theirs = (contrast_interval(v, [-1, 0, 0, 1], model="pooled") for v in (shifted, y))
    assert ours.high == pytest.approx(theirs.high, rel=1e-7)


def test_blocks_that_agree_give_no_spread():
    y = np.array([[0.1, 0.2, 0.4]]) + np.array([[0.0], [0.7], [1.3], [2.9]])
    for model in ("per_block", "pooled"):
        interval = contrast_interval(y, [-1, 0, 1], model=model)
        assert interval.standard_error == 0 and interval.estimate == pytest.approx(0.3)


def test_per_block_ignores_arms_without_weight():
    y = table()
    y[2, 1] = math.nan
    assert contrast_interval(y, [-1, 0, 0, 1]) == contrast_interval(table(), [-1, 0, 0, 1])


def coverage(y, c, truth, model):
    covered = 0
    for values in y:
        interval = contrast_interval(values, c, model=model)
        covered += interval.low <= truth <= interval.high
    return scipy_stats.binomtest(covered, len(y)).proportion_ci(0.999, "exact")


def test_per_block_covers_under_unequal_spreads_where_pooled_does_not():
    rng = generator(0, "test heteroscedastic coverage")
    spread = np.array([0.2, 0.2, 0.2, 3.0])
    y = rng.normal(size=(1200, 4, 1)) * 5 + rng.normal(size=(1200, 4, 4)) * spread
    band = coverage(y, [-1, 0, 0, 1], 0.0, "per_block")
    assert band.low <= 0.95 <= band.high
    assert coverage(y, [-1, 0, 0, 1], 0.0, "pooled").high < 0.95


def test_pooled_covers_in_its_own_model_and_is_shorter():
    rng = generator(0, "test pooled coverage")
    y = rng.normal(size=(1000, 3, 1)) * 5 + rng.normal(size=(1000, 3, 4)) + np.array([0, 0, 0, 0.7])
    y[:, 1, 2] = math.nan
    band = coverage(y, [-1, 0, 0, 1], 0.7, "pooled")
    assert band.low <= 0.95 <= band.high
    widths = [
        [interval.high - interval.low for interval in (contrast_interval(v, [-1, 0, 0, 1], model=m) for v in y[:200])]
        for m in ("pooled", "per_block")
    ]
    assert np.mean(widths[0]) < 0.8 * np.mean(widths[1])


@pytest.mark.parametrize(
    ("values", "coefficients", "model", "message"),
    [
        (table(), [1, 1, -1, 0], "per_block", "expected a sum of 0, so that blocks cancel, not 1"),
        (table(), [0, 0, 0, 0], "pooled", "expected at least two that are not zero"),
        (table(), [-1, 1], "per_block", "coefficients have length 2: expected one per arm, 4"),
        (table(), [-1, 0, math.nan, 1], "per_block", "coefficients[2] = nan"),
        (table(), [-1, 0, 0, 1], "pool", "model = 'pool': unknown; did you mean 'pooled'?"),
        ([[1.0, 2.0]], [-1, 1], "per_block", "values has shape (1, 2): expected (blocks, arms), at least 2 of each"),
        ([1.0, 2.0], [-1, 1], "per_block", "values has shape (2,)"),
        ([[1.0, 2.0], [math.nan, 2.0]], [-1, 1], "per_block", "values[1, 0] = nan: expected a finite number; leave"),
        ([[1.0, 2.0], [math.inf, 2.0]], [-1, 1], "pooled", "values[1, 0] = inf: expected a finite number, or NaN"),
        ([[1.0, 2.0], [math.nan, 2.0]], [-1, 1], "pooled", "3 of 4 cells are there, which leaves no run"),
        ([[1.0, math.nan], [math.nan, 2.0]], [-1, 1], "pooled", "2 of 4 cells are there, and they do not connect"),
        ([[math.nan] * 2] * 2, [-1, 1], "pooled", "0 of 4 cells are there"),
    ],
)
def test_bad_tables_are_named(values, coefficients, model, message):
    with pytest.raises(InputError) as caught:
        contrast_interval(values, coefficients, model=model)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "message"), [([4], "length 1"), ([4, 4], "at least two different"), ([1, math.inf], "x[1]")]
)
def test_bad_trends_are_named(x, message):
    with pytest.raises(InputError) as caught:
        linear_trend_coefficients(x)
    assert message in str(caught.value)
