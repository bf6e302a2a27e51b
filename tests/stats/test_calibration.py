import dataclasses
import math

import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import (
    Claim,
    Outcome,
    calibrate_claim,
    decide,
    false_verdicts,
    family_errors,
    mean_interval,
)

GREATER = Claim(
    id="c",
    statement="A statement.",
    source="A source",
    estimand="an effect",
    direction="greater",
    margin=0.5,
    unit="points",
    test="t interval",
    held_fixed=(),
    scope="here",
)
LESS = dataclasses.replace(GREATER, direction="less", id="less")
CONTROL = dataclasses.replace(GREATER, direction="equivalent", id="control")
BOTH = {"supported", "contradicted"}


@pytest.mark.parametrize(
    ("claim", "truth", "expected"),
    [
        (GREATER, 0.6, {"contradicted"}),
        (GREATER, 0.5, BOTH),
        (GREATER, 0.1 + 0.4 + 1e-16, BOTH),
        (GREATER, 0.4999, {"supported"}),
        (GREATER, -0.6, {"supported"}),
        (LESS, -0.6, {"contradicted"}),
        (LESS, -0.5, BOTH),
        (LESS, 0.6, {"supported"}),
        (CONTROL, 0.0, {"contradicted"}),
        (CONTROL, -0.5, BOTH),
        (CONTROL, 0.6, {"supported"}),
        (CONTROL, -0.6, {"supported"}),
        (GREATER, math.nan, BOTH),
    ],
)
def test_which_words_are_false(claim, truth, expected):
    assert false_verdicts(claim, truth) == expected


def outcome(word, low=0.1, high=0.9, truth=0.5, level=0.95):
    return Outcome(word, low, high, level, truth)


def test_counts_by_hand():
    seen = calibrate_claim(
        GREATER,
        [
            outcome("supported", 0.6, 0.8),
            outcome("contradicted", 0.0, 0.4),
            outcome("inconclusive"),
            outcome("inconclusive", None, None, level=None),
            outcome("supported", 0.6, 1.8, truth=0.9),
        ],
    )
    assert (seen.tables, seen.supported, seen.contradicted, seen.inconclusive) == (5, 2, 1, 2)
    assert (seen.false_supported.successes, seen.false_supported.n) == (1, 5)
    assert (seen.false_contradicted.successes, seen.false_contradicted.n) == (1, 5)
    assert (seen.coverage.successes, seen.coverage.n) == (2, 4)
    assert seen.mean_width == pytest.approx((0.2 + 0.4 + 0.8 + 1.2) / 4)
    assert seen.truth == pytest.approx((4 * 0.5 + 0.9) / 5) and seen.zero_rejected is None
    exact = scipy_stats.binomtest(1, 5).proportion_ci(0.999, "exact")
    assert (seen.false_supported.low, seen.false_supported.high) == pytest.approx((exact.low, exact.high))


def test_a_word_that_is_true_has_no_false_rate():
    seen = calibrate_claim(GREATER, [outcome("supported", 0.6, 1.0, truth=0.9)] * 3)
    assert seen.false_supported is None and seen.false_contradicted.share == 0


def test_without_an_estimand_every_word_is_false_and_nothing_can_be_covered():
    seen = calibrate_claim(GREATER, [outcome("supported", truth=math.nan), outcome("inconclusive", truth=math.nan)])
    assert seen.false_supported.share == 0.5 and seen.coverage is None and seen.truth is None
    assert seen.mean_width == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        (0, True),
        (250, True),  # at the nominal rate
        (290, True),  # 5.8 %: within Monte Carlo error
        (310, False),  # 6.2 %: not
    ],
)
def test_holds_until_the_interval_lies_above_the_nominal_rate(changes, holds):
    tables = 5000
    wrong = [outcome("supported", 0.6, 0.8, truth=0.2)] * changes
    right = [outcome("inconclusive", 0.1, 0.9, truth=0.2)] * (tables - changes)
    assert calibrate_claim(GREATER, wrong + right).holds is holds


def test_too_little_coverage_does_not_hold_and_too_much_does():
    near, far = outcome("inconclusive", 0.1, 0.9, truth=0.7), outcome("inconclusive", 0.1, 0.6, truth=0.7)
    assert calibrate_claim(GREATER, [near] * 5000).holds
    assert calibrate_claim(GREATER, [near] * 4710 + [far] * 290).holds
    assert not calibrate_claim(GREATER, [near] * 4690 + [far] * 310).holds


def test_the_a_a_test_rejects_at_its_rate_and_a_broken_one_is_seen():
    rng = generator(0, "test a-a")
    intervals = [mean_interval(row) for row in rng.normal(size=(2000, 5))]
    outcomes = [Outcome(decide(CONTROL, each, 5).verdict, each.low, each.high, each.level, 0.0) for each in intervals]
    seen = calibrate_claim(CONTROL, outcomes)
    assert seen.zero_rejected.low <= 0.05 <= seen.zero_rejected.high and seen.holds
    assert seen.zero_rejected.successes == 2000 - seen.coverage.successes
    narrow = [
        each._replace(low=(3 * each.low + each.high) / 4, high=(each.low + 3 * each.high) / 4) for each in outcomes
    ]
    broken = calibrate_claim(CONTROL, narrow)
    assert broken.zero_rejected.low > 0.05 and not broken.holds


def test_the_family_leaves_controls_out_and_counts_a_table_once():
    right, wrong = outcome("inconclusive"), outcome("supported", truth=0.2)
    tables = {
        "c": [wrong, wrong, right, right],
        "less": [outcome("contradicted", truth=-0.9), right, right, right],
        "control": [outcome("supported", truth=0.9)] * 4,
    }
    assert family_errors([GREATER, LESS, CONTROL], tables).successes == 2
    assert family_errors([CONTROL], tables) is None


def test_bad_outcomes_are_named():
    with pytest.raises(InputError, match="outcomes has length 0"):
        calibrate_claim(GREATER, [])
    with pytest.raises(InputError, match="outcome's verdict = 'suported': unknown; did you mean 'supported'"):
        calibrate_claim(GREATER, [outcome("suported")])
