import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import Interval, difference_interval, mean_interval

SAMPLES = [
    [1.0, 2.0],
    [1.0, 2.0, 3.0],
    [-5.0, 0.0, 1e-3, 12.0],
    [1e6 + 1, 1e6 + 2, 1e6 + 4],
    [1e-9, 3e-9, 2e-9, 2e-9, 7e-9],
    [0.0, 0.0, 0.0, 1.0],
    list(generator(0, "test sample").normal(3, 2, size=19)),
]


def test_mean_interval_by_hand():
    interval = mean_interval([1.0, 2.0, 3.0])
    # s = 1, so the standard error is 1/sqrt(3); t(2, 0.975) = 4.302653 from printed tables.
    assert interval.estimate == 2.0
    assert interval.standard_error == pytest.approx(1 / math.sqrt(3), rel=1e-14)
    assert interval.high - interval.estimate == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.df == 2 and interval.level == 0.95


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("values", SAMPLES)
def test_mean_interval_equals_scipy(values, level):
    ours = mean_interval(values, level=level)
    theirs = scipy_stats.ttest_1samp(values, 0).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@pytest.mark.parametrize("values", SAMPLES)
def test_paired_difference_equals_scipy(values):
    other = generator(1, "test pair").normal(size=len(values))
    ours = difference_interval(values, other, paired=True)
    theirs = scipy_stats.ttest_rel(values, other).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.df == len(values) - 1


@pytest.mark.parametrize("other", [SAMPLES[1], SAMPLES[2], SAMPLES[6]])
@pytest.mark.parametrize("values", SAMPLES)
def test_unpaired_difference_equals_welch_of_scipy(values, other):
    ours = difference_interval(values, other, paired=False, level=0.9)
    test = scipy_stats.ttest_ind(values, other, equal_var=False)
    theirs = test.confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert ours.df == pytest.approx(test.df)


def test_welch_with_one_arm_without_spread_has_the_other_arms_degrees_of_freedom():
    assert difference_interval([1.0, 1.0, 1.0], [1.0, 2.0, 4.0, 5.0], paired=False).df == pytest.approx(3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e9 + 0.1, -7.3])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_equal_runs_give_a_point_and_no_spread(value, n):
    interval = mean_interval([value] * n)
    assert interval.standard_error == 0
    assert interval.low == interval.estimate == interval.high == pytest.approx(value)


def test_differences_that_agree_up_to_rounding_count_as_equal():
    b = np.array([0.1, 0.7, 1.3])
    assert np.std((b + 0.1) - b) > 0  # the differences do differ in their last digits
    assert difference_interval(b + 0.1, b, paired=True).standard_error == 0
    assert difference_interval([0.1] * 3, [0.3] * 3, paired=False).standard_error == 0


def test_small_real_spread_is_kept():
    assert mean_interval([1.0, 1.0 + 1e-12, 1.0]).standard_error > 0


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_coverage_of_planted_mean(n):
    draws = generator(n, "test coverage").normal(10, 3, size=(3000, n))
    intervals = [mean_interval(row) for row in draws]
    covered = sum(interval.low <= 10 <= interval.high for interval in intervals)
    band = scipy_stats.binomtest(covered, len(draws)).proportion_ci(0.999, "exact")
    assert band.low <= 0.95 <= band.high


@pytest.mark.parametrize("paired", [True, False])
def test_coverage_of_planted_difference(paired):
    rng = generator(0, "test coverage of differences", paired)
    block = rng.normal(0, 5 * paired, size=(3000, 6))
    a, b = block + rng.normal(2, 3, size=(3000, 6)), block + rng.normal(1, 0.5, size=(3000, 6))
    intervals = [difference_interval(x, y, paired=paired) for x, y in zip(a, b, strict=True)]
    covered = sum(interval.low <= 1 <= interval.high for interval in intervals)
    band = scipy_stats.binomtest(covered, len(a)).proportion_ci(0.999, "exact")
    # Welch is an approximation; it is allowed half a percent.
    assert band.low <= 0.955 and band.high >= (0.95 if paired else 0.945)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "values has length 1: expected at least 2"),
        ([], "values has length 0: expected at least 2"),
        ([1.0, math.nan, 2.0], "values[1] = nan: expected a finite number"),
        ([1.0, 2.0, -math.inf], "values[2] = -inf: expected a finite number"),
        ([[1.0, 2.0]], "values has shape (1, 2): expected one dimension"),
        (["a", "b"], "values = ['a', 'b']: expected an array of numbers"),
        (3.0, "values = 3.0: expected an array of numbers"),
        (None, "values = None: expected an array of numbers"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError) as caught:
        mean_interval(values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan, "0.95", True])
def test_bad_level_is_named(level):
    with pytest.raises(InputError, match=r"level = .*: expected a number strictly between 0 and 1"):
        mean_interval([1.0, 2.0], level=level)


def test_bad_differences_are_named():
    with pytest.raises(InputError, match="a and b have lengths 3 and 2: expected equal lengths"):
        difference_interval([1.0, 2.0, 3.0], [1.0, 2.0], paired=True)
    with pytest.raises(InputError, match=r"b\[0\] = nan"):
        difference_interval([1.0, 2.0], [math.nan, 2.0], paired=False)
    with pytest.raises(InputError, match="paired = 'yes': expected True or False"):
        difference_interval([1.0, 2.0], [1.0, 2.0], paired="yes")


@pytest.mark.parametrize(
    ("field", "value"),
    [("low", 1.5), ("high", math.nan), ("df", 0), ("standard_error", -1.0), ("level", 1.0), ("estimate", 9.0)],
)
def test_interval_refuses_what_is_no_interval(field, value):
    good = {"estimate": 1.0, "low": 0.0, "high": 2.0, "df": 3, "standard_error": 0.5, "level": 0.95}
    Interval(**good)
    with pytest.raises(InputError, match="Interval"):
        Interval(**{**good, field: value})
