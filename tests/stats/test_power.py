import math

import numpy as np
import pytest
from scipy import integrate, special
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import FEWEST_RUNS, power_t, runs_for_power, smallest_detectable_effect

CASES = [
    (0.0, 1.0, 3, 0.0),
    (1.0, 1.0, 2, 0.0),
    (1.0, 2.0, 5, 0.5),
    (-0.7, 0.3, 4, 0.1),
    (4.0, 1.0, 3, 0.0),
    (0.2, 1.0, 300, 0.05),
]


def quadrature_twin(effect, sd, n, level, margin, alternative, df):
    """Integrate the Gaussian law of the mean over the chi law of the spread, without the noncentral t."""
    quantile = scipy_stats.t.ppf((1 + level) / 2, df)
    error = sd / math.sqrt(n)

    def given(u):
        half = quantile * error * math.sqrt(special.chdtri(df, 1 - u) / df)
        above = special.ndtr((effect - margin - half) / error)
        below = special.ndtr((-margin - half - effect) / error)
        inside = special.ndtr((margin - half - effect) / error) - special.ndtr((half - margin - effect) / error)
        return {"greater": above, "less": below, "two-sided": above + below, "equivalent": inside}[alternative]

    end = scipy_stats.chi2.cdf(df * (margin / quantile / error) ** 2, df) if alternative == "equivalent" else 1
    return integrate.quad(given, 0, end, limit=500, epsabs=1e-13, epsrel=1e-9)[0]


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize(("effect", "sd", "n", "margin"), CASES)
@pytest.mark.parametrize("df_per_run", [1, 3])
def test_power_equals_quadrature(effect, sd, n, margin, alternative, df_per_run):
    ours = power_t(effect, sd, n, margin=margin, alternative=alternative, df_per_run=df_per_run)
    twin = quadrature_twin(effect, sd, n, 0.95, margin, alternative, df_per_run * (n - 1))
    assert ours == pytest.approx(twin, rel=1e-6, abs=1e-9)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize(
    ("effect", "sd", "n", "margin"),
    [
        (0.0, 1.0, 5, 1.0),
        (0.3, 1.0, 12, 1.0),
        (0.0, 1.0, 2, 20.0),
        (0.0, 0.1, 4, 5.0),
        (2.0, 1.0, 9, 1.0),
        (0, 5.0, 3, 0.1),
    ],
)
def test_power_of_equivalence_equals_quadrature(effect, sd, n, margin):
    ours = power_t(effect, sd, n, margin=margin, alternative="equivalent")
    assert ours == pytest.approx(quadrature_twin(effect, sd, n, 0.95, margin, "equivalent", n - 1), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("alternative", "effect", "margin"),
    [("greater", 1.5, 0.5), ("less", -1.5, 0.5), ("two-sided", 0.9, 0), ("equivalent", 0.1, 1.2)],
)
def test_power_agrees_with_simulated_intervals(alternative, effect, margin):
    n, studies = 5, 20_000
    draws = generator(0, "test power").normal(effect, 1.0, size=(studies, n))
    half = scipy_stats.t.ppf(0.975, n - 1) * draws.std(axis=1, ddof=1) / math.sqrt(n)
    low, high = draws.mean(axis=1) - half, draws.mean(axis=1) + half
    shown = {
        "greater": low > margin,
        "less": high < -margin,
        "two-sided": (low > margin) | (high < -margin),
        "equivalent": (low > -margin) & (high < margin),
    }[alternative]
    band = scipy_stats.binomtest(int(shown.sum()), studies).proportion_ci(0.999, "exact")
    assert band.low <= power_t(effect, 1.0, n, margin=margin, alternative=alternative) <= band.high


def test_power_at_the_margin_is_half_the_error():
    assert power_t(0.5, 1.0, 7, margin=0.5) == pytest.approx(0.025, rel=1e-9)
    assert power_t(0.0, 1.0, 7, alternative="two-sided", level=0.9) == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided", "equivalent"])
def test_power_stays_a_probability_at_extremes(alternative):
    for effect in (-1e6, 0.0, 1e6):
        for n in (2, 10_000_000):
            assert 0 <= power_t(effect, 1e-3, n, margin=0.5, alternative=alternative) <= 1


@pytest.mark.parametrize(
    ("effect", "sd", "margin", "alternative", "df_per_run"),
    [
        (1.0, 1.0, 0.0, "greater", 1),
        (1.0, 1.0, 0.5, "greater", 1),
        (-1.0, 1.0, 0.5, "less", 3),
        (1.0, 1.3, 0.0, "two-sided", 1),
        (0.0, 1.0, 0.5, "equivalent", 1),
        (0.05, 2.0, 0.0, "greater", 1),
    ],
)
def test_runs_are_the_fewest_that_reach_the_power(effect, sd, margin, alternative, df_per_run):
    n = runs_for_power(effect, sd, margin, alternative=alternative, df_per_run=df_per_run)

    def reached(runs):
        return power_t(effect, sd, runs, margin=margin, alternative=alternative, df_per_run=df_per_run)

    assert reached(n) >= 0.9 > reached(n - 1) and n > FEWEST_RUNS


def test_runs_from_textbook():
    # Paired t test, effect of half a standard deviation, two-sided 5 %, power 90 %: 44 pairs.
    assert runs_for_power(0.5, 1.0, alternative="two-sided") == 44


def test_huge_effects_still_need_the_runs_of_a_verdict():
    assert runs_for_power(1e6, 1.0) == FEWEST_RUNS == 3


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_smallest_detectable_effect_has_just_that_power(n, alternative):
    d = smallest_detectable_effect(n, power=0.8, alternative=alternative)
    side = "greater" if alternative == "less" else alternative
    assert power_t(d, 1.0, n, alternative=side) == pytest.approx(0.8, rel=1e-8)


def test_smallest_detectable_effect_shrinks_with_runs():
    sizes = [smallest_detectable_effect(n) for n in (2, 3, 4, 8, 16, 64)]
    assert np.all(np.diff(sizes) < 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_t(1.0, 0.0, 5), "sd = 0.0: expected a finite number above 0"),
        (lambda: power_t(math.nan, 1.0, 5), "effect = nan: expected a finite number"),
        (lambda: power_t(1.0, 1.0, 1), "n = 1: expected an integer of at least 2"),
        (lambda: power_t(1.0, 1.0, 2.5), "n = 2.5: expected an integer of at least 2"),
        (lambda: power_t(1.0, 1.0, 5, margin=-1), "margin = -1: expected a finite number of at least 0"),
        (lambda: power_t(0.0, 1.0, 5, alternative="equivalent"), "margin = 0.0: expected a finite number above 0"),
        (lambda: power_t(1.0, 1.0, 5, alternative="larger"), "alternative = 'larger': unknown"),
        (lambda: power_t(1.0, 1.0, 5, df_per_run=0), "df_per_run = 0: expected a finite number above 0"),
        (lambda: runs_for_power(0.5, 1.0, margin=0.5), "effect = 0.5: expected an effect above 0.5"),
        (lambda: runs_for_power(0.5, 1.0, alternative="less"), "effect = 0.5: expected an effect below"),
        (lambda: runs_for_power(1.0, 1.0, margin=0.5, alternative="equivalent"), "expected an effect inside ±0.5"),
        (lambda: runs_for_power(0.1, 1.0, margin=0.5, alternative="two-sided"), "expected an effect beyond ±0.5"),
        (lambda: runs_for_power(1.0, 1.0, power=1.0), "power = 1.0: expected a number strictly between 0 and 1"),
        (lambda: runs_for_power(1e-9, 1.0), "effect = 1e-09: expected one that at most 10000000 runs can tell"),
        (lambda: smallest_detectable_effect(5, alternative="equivalent"), "alternative = 'equivalent': unknown"),
        (lambda: smallest_detectable_effect(5, power=0.01), "power = 0.01: expected more than"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
