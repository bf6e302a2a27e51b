import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import (
    Estimate,
    SmallestEstimate,
    contrast_estimate,
    contrast_interval,
    difference_estimate,
    difference_interval,
    mean_estimate,
    mean_interval,
    smallest_of,
)


def estimates(count=3, n=5, seed=0):
    rng = generator(seed, "test estimates", count, n)
    return [mean_estimate(rng.normal(place, 1, size=n)) for place in range(count)]


def test_estimates_have_the_intervals_of_their_makers():
    x, y = generator(0, "test makers").normal(size=(2, 6))
    table = generator(1, "test makers").normal(size=(4, 3))
    for level in (0.5, 0.95, 0.99):
        assert mean_estimate(x).interval(level) == mean_interval(x, level)
        for paired in (True, False):
            ours = difference_estimate(x, y, paired=paired).interval(level)
            assert ours == difference_interval(x, y, paired=paired, level=level)
        for model in ("per_block", "pooled"):
            ours = contrast_estimate(table, [-1, 0, 1], model).interval(level)
            assert ours == contrast_interval(table, [-1, 0, 1], level, model)


@pytest.mark.parametrize("edge", [-2.0, 0.0, 0.3])
def test_one_sided_p_values_equal_scipy(edge):
    x = generator(2, "test sides").normal(size=5)
    ours = mean_estimate(x)
    assert ours.p_above(edge) == pytest.approx(scipy_stats.ttest_1samp(x, edge, alternative="greater").pvalue)
    assert ours.p_below(edge) == pytest.approx(scipy_stats.ttest_1samp(x, edge, alternative="less").pvalue)


def test_smallest_by_its_definition():
    parts = estimates()
    interval = smallest_of(parts).interval(0.94)
    assert interval.estimate == min(each.estimate for each in parts)
    assert interval.low == min(each.interval(0.94).low for each in parts)
    assert interval.high == pytest.approx(min(each.interval(0.98).high for each in parts), rel=1e-12)
    assert interval.level == 0.94


def test_smallest_of_one_is_itself_and_nests():
    first, second, third = estimates()
    assert smallest_of([first]) is first
    assert smallest_of([smallest_of([first, second]), third]) == smallest_of([first, second, third])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_one_sided_p_values_and_the_interval_say_the_same(count):
    rng = generator(3, "test duality", count)
    seen = set()
    for _ in range(300):
        evidence = smallest_of(mean_estimate(rng.normal(0.2, 1, size=4)) for _ in range(count))
        edge, level = float(rng.uniform(-1.5, 1)), float(rng.uniform(0.5, 0.99))
        interval = evidence.interval(level)
        above, below = interval.low > edge, interval.high < edge
        assert above == (evidence.p_above(edge) < (1 - level) / 2)
        assert below == (evidence.p_below(edge) < (1 - level) / 2)
        seen.add((above, below))
    assert len(seen) == 3


@pytest.mark.parametrize("truths", [(0.0, 0.0), (0.0, 0.5, 3.0), (0.0, 0.0, 0.0, 0.0)])
@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.3])
def test_smallest_covers_and_errs_on_either_side_as_rarely_as_promised(truths, correlation):
    studies, n, level = 1500, 4, 0.9
    k = len(truths)
    covariance = np.full((k, k), correlation) + (1 - correlation) * np.eye(k)
    rng = generator(0, "test smallest", k, int(10 * correlation))
    draws = rng.multivariate_normal(truths, covariance, size=(studies, n))
    too_high = too_low = 0
    for study in draws:
        interval = smallest_of(mean_estimate(study[:, arm]) for arm in range(k)).interval(level)
        too_high += interval.low > min(truths)
        too_low += interval.high < min(truths)
    for misses in (too_high, too_low):
        assert scipy_stats.binomtest(misses, studies).proportion_ci(0.999, "exact").low <= (1 - level) / 2


def test_a_clear_smallest_is_missed_from_above_at_its_own_rate():
    studies, level = 1500, 0.9
    rng = generator(1, "test clear smallest")
    missed = 0
    for _ in range(studies):
        near, far = mean_estimate(rng.normal(0, 1, size=4)), mean_estimate(rng.normal(50, 1, size=4))
        missed += smallest_of([far, near]).interval(level).low > 0
    band = scipy_stats.binomtest(missed, studies).proportion_ci(0.999, "exact")
    assert band.low <= (1 - level) / 2 <= band.high


def test_a_component_without_spread_leaves_no_test():
    smallest = smallest_of([mean_estimate([1.0, 1.0, 1.0]), mean_estimate([3.0, 4.0, 5.0])])
    assert smallest.standard_error == 0
    assert math.isnan(smallest.p_above(0.0)) and math.isnan(smallest.p_below(0.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: smallest_of([]), "estimates has length 0: expected at least 1"),
        (lambda: smallest_of([1.0]), "estimates[0] = 1.0: expected an Estimate"),
        (lambda: Estimate(estimate=math.nan, standard_error=1, df=2), "Estimate.estimate = nan"),
        (lambda: Estimate(estimate=0.0, standard_error=-1, df=2), "Estimate.standard_error = -1"),
        (lambda: Estimate(estimate=0.0, standard_error=1, df=0), "Estimate.df = 0"),
        (lambda: SmallestEstimate(components=tuple(estimates())).interval(1.0), "level = 1.0"),
    ],
)
def test_bad_estimates_are_named(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
