import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import Claim, Estimate, decide, decide_together, holm, mean_estimate, smallest_of


def claim(direction="greater", margin=0.5, name="c"):
    return Claim(
        id=name,
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


def at(effect, error=0.1, df=9):
    return Estimate(estimate=effect, standard_error=error, df=df)


def words(verdicts):
    return [verdict.verdict for verdict in verdicts]


def test_each_step_has_its_own_level():
    family = [claim(), claim("less"), claim()]
    verdicts = decide_together(family, [at(0.8), at(-1.5), at(0.1)], [10] * 3)
    assert words(verdicts) == ["supported", "supported", "contradicted"]
    # Sorted by distance from the margin: 1.0, 0.4, 0.3.
    assert [verdict.level for verdict in verdicts] == pytest.approx([0.95, 1 - 0.05 / 3, 0.975])
    for verdict, estimate in zip(verdicts, [at(0.8), at(-1.5), at(0.1)], strict=True):
        interval = estimate.interval(verdict.level)
        assert (verdict.low, verdict.high) == (interval.low, interval.high)
    assert verdicts[1].reason.startswith("The 98.33 % interval")


def test_the_method_stops_at_the_first_that_is_not_decided():
    # Each of the two would be decided at 95 %, neither at 97.5 %.
    near = at(0.5 + 0.1 * scipy_stats.t.ppf(0.98, 9))
    assert decide(claim(), near.interval(0.95), 10).verdict == "supported"
    stopped = decide_together([claim(), claim()], [near, near], [10, 10])
    assert words(stopped) == ["inconclusive"] * 2
    assert [verdict.level for verdict in stopped] == [0.975, 0.975]
    helped = decide_together([claim(), claim()], [near, at(5.0)], [10, 10])
    assert words(helped) == ["supported"] * 2 and helped[0].level == pytest.approx(0.95)


def test_decisions_and_p_values_are_holms():
    rng = generator(0, "test holm together")
    decided = set()
    for _ in range(200):
        directions = rng.choice(["greater", "less"], size=4)
        evidence = [
            smallest_of(mean_estimate(rng.normal(0.5, 1, size=6) * 0.4) for _ in range(rng.integers(1, 3)))
            for _ in directions
        ]
        level = float(rng.uniform(0.5, 0.95))
        family = [claim(direction, margin=0.3) for direction in directions]
        raw = [
            min(1, 2 * min(each.p_above(edge), each.p_below(edge)))
            for each, edge in zip(evidence, np.where(directions == "greater", 0.3, -0.3), strict=True)
        ]
        verdicts = decide_together(family, evidence, [6] * 4, level=level)
        assert [verdict.p for verdict in verdicts] == pytest.approx(holm(raw))
        for verdict, adjusted in zip(verdicts, holm(raw), strict=True):
            assert (verdict.verdict != "inconclusive") == (adjusted < 1 - level)
        decided.add(sum(verdict.verdict != "inconclusive" for verdict in verdicts))
    assert len(decided) == 5


def test_claims_that_cannot_be_decided_count_and_come_last():
    family = [claim(), claim(), claim(), claim()]
    verdicts = decide_together(
        family, [at(9.0), at(9.0, error=0.0), None, at(5.0)], [10, 10, 1, 10], ["Runs diverged.", None, None, None]
    )
    assert words(verdicts) == ["inconclusive"] * 3 + ["supported"]
    assert verdicts[3].level == pytest.approx(1 - 0.05 / 4)
    assert [verdict.level for verdict in verdicts[:2]] == pytest.approx([1 - 0.05 / 3] * 2)
    assert verdicts[0].reason == "Runs diverged." and "to the last digit" in verdicts[1].reason
    assert verdicts[2].effect is verdicts[2].level is None and "Only 1 independent run:" in verdicts[2].reason
    assert [verdict.p for verdict in verdicts[:3]] == [None] * 3


def test_controls_stand_outside_the_family():
    control = claim("equivalent", name="control")
    verdicts = decide_together([control, claim()], [at(0.2), at(0.9)], [10, 10])
    assert verdicts[0] == decide(control, at(0.2).interval(0.95), 10)
    assert verdicts[1] == decide(claim(), at(0.9).interval(0.95), 10)
    assert decide_together([control], [at(0.2)], [10])[0].verdict == "supported"
    assert decide_together([], [], []) == ()


def test_an_undecided_smallest_names_no_number_of_runs():
    verdict = decide_together([claim()], [smallest_of([at(0.5), at(0.6)])], [10])[0]
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.endswith("reaches across the margin of 0.5 points (n = 10).")


def test_a_component_without_spread_is_named():
    verdict = decide_together([claim()], [smallest_of([at(3.0, error=0.0), at(2.0)])], [10])[0]
    assert verdict.verdict == "inconclusive" and "All 10 runs give 3 points to the last digit" in verdict.reason


# Truths by claim, in standard errors from the margin. "far" ones are decided nearly always, so that the step of the
# others is the last one; those a little off the margin can be given the wrong side and the right one.
TRUTHS = {
    "all at the margin": (0.0, 0.0, 0.0),
    "one at the margin, others far above": (0.0, 9.0, 9.0),
    "one at the margin, others far below": (0.0, -9.0, -9.0),
    "near the margin, on both sides": (0.2, -0.2, 0.3),
    "one at the margin, others near": (0.0, 0.5, -1.0),
    "one at the margin, others within reach": (0.0, 2.0, 3.0),
}


@pytest.mark.parametrize("truths", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("correlation", [0.0, 0.95, -0.45])
def test_any_wrong_verdict_in_the_family_is_as_rare_as_promised(truths, correlation, monkeypatch):
    # The sentence on how many runs would be needed is not what is tested here, and takes most of the time.
    monkeypatch.setattr("mlptheory.stats.decisions.fewest_runs", lambda *args, **kwargs: None)
    studies, n = 1000, 8
    covariance = n * (np.full((3, 3), correlation) + (1 - correlation) * np.eye(3))
    center = np.array([0.5, -0.5, 0.5])
    rng = generator(0, "test family", sorted(TRUTHS.values()).index(truths), int(100 * correlation))
    draws = rng.multivariate_normal(center + truths, covariance, size=(studies, n))
    family = [claim(), claim("less"), claim()]
    wrong = 0
    for study in draws:
        verdicts = decide_together(family, [mean_estimate(study[:, arm]) for arm in range(3)], [n] * 3)
        wrong += any(
            is_wrong(verdict.verdict, truth if verdict.direction == "greater" else -truth)
            for verdict, truth in zip(verdicts, truths, strict=True)
        )
    band = scipy_stats.binomtest(wrong, studies).proportion_ci(0.999, "exact")
    assert band.low <= 0.05
    if 9.0 in np.abs(truths):
        # One claim is left, at its own 5 %: the method gives nothing away.
        assert band.high >= 0.05


def is_wrong(verdict, beyond):
    """Whether a verdict is wrong where the truth lies `beyond` the margin in the claimed direction."""
    return (verdict == "supported" and beyond <= 0) or (verdict == "contradicted" and beyond >= 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([claim()], [], [3]), "estimates has length 0: expected one per claim, 1"),
        (([claim()], [at(1.0)], [3, 3]), "ns has length 2: expected one per claim, 1"),
        (([claim()], [at(1.0)], [3], [None, None]), "forced_reasons has length 2"),
        (([claim()], [None], [3]), "estimate = None: expected an Estimate, as there are n = 3 runs"),
        (([claim()], [None], [-1]), "n = -1: expected an integer of at least 0"),
        (([claim()], [at(1.0)], [3], None, 1.0), "level = 1.0"),
    ],
)
def test_bad_calls_are_named(arguments, message):
    with pytest.raises(InputError) as caught:
        decide_together(*arguments)
    assert message in str(caught.value)
