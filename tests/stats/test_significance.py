import math

import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import difference_interval, mean_interval, p_value, tost

VALUES = [list(generator(n, "test p").normal(0.4, 1, size=n)) for n in (2, 3, 8, 40)] + [[100.0, 100.1, 99.95]]


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("null", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("values", VALUES)
def test_p_value_equals_scipy(values, null, alternative):
    theirs = scipy_stats.ttest_1samp(values, null, alternative=alternative).pvalue
    assert p_value(mean_interval(values), null, alternative) == pytest.approx(theirs, rel=1e-9)


def test_p_value_of_welch_equals_scipy():
    theirs = scipy_stats.ttest_ind(VALUES[2], VALUES[1], equal_var=False).pvalue
    assert p_value(difference_interval(VALUES[2], VALUES[1], paired=False)) == pytest.approx(theirs, rel=1e-9)


def test_p_value_and_interval_say_the_same():
    interval = mean_interval(VALUES[2], level=0.9)
    assert p_value(interval, null=interval.low) == pytest.approx(0.1)
    assert p_value(interval, null=interval.high) == pytest.approx(0.1)


def test_tost_is_the_larger_of_two_one_sided_tests():
    values = VALUES[2]
    above = scipy_stats.ttest_1samp(values, -1.5, alternative="greater").pvalue
    below = scipy_stats.ttest_1samp(values, 1.5, alternative="less").pvalue
    assert tost(mean_interval(values), 1.5) == pytest.approx(max(above, below), rel=1e-9)


def test_tost_and_interval_say_the_same():
    interval = mean_interval([-0.3, 0.1, 0.2, 0.5])
    edge = max(-interval.low, interval.high)
    assert tost(interval, edge) == pytest.approx(0.025)


def test_runs_without_spread_give_no_p_value():
    interval = mean_interval([0.5, 0.5, 0.5])
    assert math.isnan(p_value(interval)) and math.isnan(tost(interval, 1.0))


def test_false_positive_rate_is_nominal():
    draws = generator(0, "test false positives").normal(size=(3000, 4))
    rejected = sum(p_value(mean_interval(row)) < 0.05 for row in draws)
    band = scipy_stats.binomtest(rejected, len(draws)).proportion_ci(0.999, "exact")
    assert band.low <= 0.05 <= band.high


def test_bad_arguments_are_named():
    interval = mean_interval([1.0, 2.0])
    with pytest.raises(InputError, match="alternative = 'grater': unknown; did you mean 'greater'"):
        p_value(interval, alternative="grater")
    with pytest.raises(InputError, match="null = nan: expected a finite number"):
        p_value(interval, null=math.nan)
    with pytest.raises(InputError, match="margin = 0: expected a finite number above 0"):
        tost(interval, 0)
