import math
import re

import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json
from mlptheory.base.random import generator
from mlptheory.stats import (
    Claim,
    Interval,
    contrast_interval,
    decide,
    mean_estimate,
    mean_interval,
    p_value,
    power_t,
    runs_for_power,
)


def claim(direction="greater", margin=0.5):
    return Claim(
        id="c",
        statement="A statement.",
        source="A source",
        estimand="an effect",
        direction=direction,
        margin=margin,
        unit="points",
        test="t interval",
        held_fixed=(),
        scope="here",
    )


def between(low, high, level=0.95, df=4):
    half = (high - low) / 2
    return Interval(
        estimate=(low + high) / 2,
        low=low,
        high=high,
        df=df,
        standard_error=half / scipy_stats.t.ppf((1 + level) / 2, df),
        level=level,
    )


@pytest.mark.parametrize(
    ("direction", "margin", "low", "high", "expected"),
    [
        ("greater", 0.5, 0.6, 1.0, "supported"),
        ("greater", 0.5, 0.4, 1.0, "inconclusive"),
        ("greater", 0.5, 0.1, 0.4, "contradicted"),  # of the claimed sign, yet too small to be of interest
        ("greater", 0.5, -0.9, 0.6, "inconclusive"),
        ("greater", 0.5, -0.9, -0.6, "contradicted"),
        ("greater", 0.5, 0.5, 1.0, "inconclusive"),  # touching the margin is not beyond it
        ("greater", 0.5, 0.1, 0.5, "inconclusive"),
        ("greater", 0.0, 0.1, 0.4, "supported"),
        ("greater", 0.0, -0.1, 0.4, "inconclusive"),
        ("greater", 0.0, -0.4, -0.1, "contradicted"),
        ("less", 0.5, -1.0, -0.6, "supported"),
        ("less", 0.5, -1.0, -0.4, "inconclusive"),
        ("less", 0.5, -0.4, -0.1, "contradicted"),
        ("less", 0.5, 0.6, 1.0, "contradicted"),
        ("less", 0.0, -0.4, -0.1, "supported"),
        ("equivalent", 0.5, -0.4, 0.4, "supported"),
        ("equivalent", 0.5, 0.1, 0.4, "supported"),
        ("equivalent", 0.5, -0.4, 0.6, "inconclusive"),
        ("equivalent", 0.5, -0.6, 0.4, "inconclusive"),
        ("equivalent", 0.5, -0.6, 0.6, "inconclusive"),
        ("equivalent", 0.5, 0.6, 0.9, "contradicted"),
        ("equivalent", 0.5, -0.9, -0.6, "contradicted"),
    ],
)
def test_rule(direction, margin, low, high, expected):
    assert decide(claim(direction, margin), between(low, high), n=5).verdict == expected


@pytest.mark.parametrize("direction", ["greater", "less", "equivalent"])
def test_p_falls_below_what_the_level_leaves_exactly_where_the_interval_decides(direction):
    rng = generator(5, "test decision p")
    words = set()
    for place in range(300):
        estimate = mean_estimate(rng.normal(rng.uniform(-1.5, 1.5), 0.3, size=5))
        level = float(rng.uniform(0.5, 0.99))
        verdict = decide(claim(direction), estimate.interval(level), n=5)
        assert (verdict.p < 1 - level) == (verdict.verdict != "inconclusive"), place
        words.add(verdict.verdict)
    assert len(words) == 3


def test_verdict_carries_the_evidence():
    interval = mean_interval([1.5, 2.0, 1.8, 1.6], level=0.99)
    verdict = decide(claim(), interval, n=4)
    assert (verdict.effect, verdict.low, verdict.high, verdict.level) == (1.725, interval.low, interval.high, 0.99)
    assert (verdict.id, verdict.claim, verdict.source, verdict.scope) == ("c", "A statement.", "A source", "here")
    assert (verdict.n, verdict.unit, verdict.margin, verdict.direction) == (4, "points", 0.5, "greater")
    assert verdict.p == p_value(interval, 0.5)
    assert verdict.p == pytest.approx(scipy_stats.ttest_1samp([1.5, 2.0, 1.8, 1.6], 0.5).pvalue)
    canonical_json(verdict.to_json())


@pytest.mark.parametrize(
    ("direction", "low", "high", "reason"),
    [
        ("greater", 0.6, 1.0, "The 95 % interval [0.6, 1] points lies wholly above the margin of 0.5 points (n = 5)."),
        ("less", 0.1, 0.4, "The 95 % interval [0.1, 0.4] points lies wholly above the margin of -0.5 points (n = 5)."),
        ("equivalent", -0.1, 0.4, "The 95 % interval [-0.1, 0.4] points lies wholly inside ±0.5 points (n = 5)."),
        ("equivalent", 0.7, 0.9, "The 95 % interval [0.7, 0.9] points lies wholly outside ±0.5 points (n = 5)."),
    ],
)
def test_reasons_name_the_numbers(direction, low, high, reason):
    assert decide(claim(direction), between(low, high), n=5).reason == reason


def runs_named(reason):
    found = re.search(r"need about ([\d,]+) runs for 90 % power", reason)
    assert found, reason
    return int(found.group(1).replace(",", ""))


@pytest.mark.parametrize("direction", ["greater", "less"])
def test_inconclusive_names_the_runs_for_zero_and_twice_the_margin(direction):
    values = [0.1, 2.0, 1.8, 0.6]
    sign = 1 if direction == "greater" else -1
    verdict = decide(claim(direction), mean_interval([sign * value for value in values]), n=4)
    n = runs_named(verdict.reason)
    spread = scipy_stats.tstd(values)
    assert n == runs_for_power(sign * 1.0, spread, margin=0.5, alternative=direction) > 4
    assert f"or of {sign} points" in verdict.reason
    # By symmetry, no effect at all is then found short of the margin just as surely.
    assert power_t(-sign * 0.5, spread, n, alternative="less" if sign > 0 else "greater") >= 0.9


def test_inconclusive_uses_the_intervals_own_level_and_degrees_of_freedom():
    y = generator(3, "test decision").normal(size=(4, 4))
    y[:, 3] += 1.0
    interval = contrast_interval(y, [-1, 0, 0, 1], level=0.975, model="pooled")
    verdict = decide(claim(margin=1.0), interval, n=4)
    assert verdict.verdict == "inconclusive" and verdict.reason.startswith("The 97.5 % interval")
    spread = interval.standard_error * 2
    assert runs_named(verdict.reason) == runs_for_power(2.0, spread, margin=1.0, level=0.975, df_per_run=3)


def test_inconclusive_equivalence_names_the_runs_for_no_effect():
    values = [0.9, -0.8, 0.3]
    verdict = decide(claim("equivalent"), mean_interval(values), n=3)
    expected = runs_for_power(0.0, scipy_stats.tstd(values), margin=0.5, alternative="equivalent")
    assert runs_named(verdict.reason) == expected


def test_inconclusive_without_a_margin_asks_about_the_observed_effect():
    values = [0.9, -0.8, 0.3]
    verdict = decide(claim(margin=0.0), mean_interval(values), n=3)
    assert "reaches across 0 (n = 3)" in verdict.reason and "observed effect of 0.133 points" in verdict.reason
    assert runs_named(verdict.reason) == runs_for_power(0.4 / 3, scipy_stats.tstd(values))


def test_inconclusive_with_runs_enough_asks_about_the_observed_effect():
    verdict = decide(claim(), between(0.45, 0.57), n=5)
    assert "observed effect of 0.51 points" in verdict.reason and runs_named(verdict.reason) > 5


def test_effect_on_the_margin_is_said_to_be_undecidable():
    verdict = decide(claim(), between(0.375, 0.625, df=4), n=5)
    assert verdict.verdict == "inconclusive" and "is the margin itself" in verdict.reason


def test_hopeless_spread_is_not_given_a_number():
    assert "more than 10,000 runs" in decide(claim(), between(-1000, 1000), n=5).reason


@pytest.mark.parametrize(
    ("n", "word"), [(0, "0 independent runs"), (1, "1 independent run:"), (2, "2 independent runs")]
)
def test_too_few_runs(n, word):
    interval = mean_interval([5.0, 5.1]) if n == 2 else None
    verdict = decide(claim(), interval, n)
    assert verdict.verdict == "inconclusive" and word in verdict.reason and "at least 3" in verdict.reason
    assert (verdict.effect is None) == (n < 2) and verdict.p is None


def test_forced_reason_overrules_the_interval():
    verdict = decide(claim(), between(0.6, 1.0), n=5, forced_reason="The best lr is the largest of the grid.")
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "The best lr is the largest of the grid.")
    assert verdict.low == 0.6 and verdict.p is None


@pytest.mark.parametrize("direction", ["greater", "equivalent"])
@pytest.mark.parametrize("value", [0.0, 9.0])
def test_runs_without_spread_prove_nothing(direction, value):
    verdict = decide(claim(direction), mean_interval([value] * 5), n=5)
    assert verdict.verdict == "inconclusive" and "to the last digit" in verdict.reason
    assert verdict.p is None and verdict.low == verdict.high == value


def test_bad_calls_are_named():
    with pytest.raises(InputError, match="n = -1: expected an integer of at least 0"):
        decide(claim(), None, -1)
    with pytest.raises(InputError, match="interval = None: expected an Interval, as there are n = 3 runs"):
        decide(claim(), None, 3)


@pytest.mark.parametrize(("direction", "truth"), [("greater", 0.5), ("less", -0.5), ("equivalent", 0.5)])
def test_false_verdicts_at_the_margin_are_as_rare_as_promised(direction, truth):
    studies, n = 1500, 3
    draws = generator(0, "test false verdicts").normal(truth, 0.1, size=(studies, n))
    verdicts = [decide(claim(direction), mean_interval(row), n).verdict for row in draws]
    # On the margin itself both verdicts are wrong; each may come up with half of the 5 %.
    for wrong in ("supported", "contradicted"):
        band = scipy_stats.binomtest(verdicts.count(wrong), studies).proportion_ci(0.999, "exact")
        assert band.low <= 0.025 <= band.high


def test_planted_effects_are_found_as_often_as_the_power_says():
    studies, n = 1500, 5
    draws = generator(0, "test found").normal(1.5, 0.6, size=(studies, n))
    found = sum(decide(claim(), mean_interval(row), n).verdict == "supported" for row in draws)
    band = scipy_stats.binomtest(found, studies).proportion_ci(0.999, "exact")
    assert band.low <= power_t(1.5, 0.6, n, margin=0.5) <= band.high
    assert math.isclose(power_t(1.5, 0.6, n, margin=0.5), power_t(1.0, 0.6, n))
