import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.stats import Claim, decide, mean_interval, power_t, proportion_interval, simulated_power

CLAIM = Claim(
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


@pytest.mark.parametrize("level", [0.9, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 5000), (3, 7), (250, 5000), (5000, 5000)])
def test_equals_scipys_exact_interval(k, n, level):
    ours = proportion_interval(k, n, level)
    theirs = scipy_stats.binomtest(k, n).proportion_ci(level, "exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.share == k / n and ours.level == level


def test_simulated_power_finds_what_the_formula_says():
    def study(rng):
        shown = decide(CLAIM, mean_interval(rng.normal(1.4, 0.6, size=5)), n=5).verdict
        hidden = decide(CLAIM, mean_interval(rng.normal(-5.0, 0.1, size=5)), n=5).verdict
        return shown, hidden

    shown, hidden = simulated_power(study, studies=600)
    assert shown.low <= power_t(1.4, 0.6, 5, margin=0.5) <= shown.high
    assert hidden.successes == 0 and hidden.n == 600
    assert simulated_power(study, studies=40, seed=1) == simulated_power(study, studies=40, seed=1)
    assert simulated_power(study, studies=40, word="contradicted")[1].share == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: proportion_interval(3, 2), "successes = 3: expected at most n = 2"),
        (lambda: proportion_interval(-1, 2), "successes = -1"),
        (lambda: proportion_interval(0, 0), "n = 0"),
        (lambda: proportion_interval(0, 3, 1.0), "level = 1.0"),
        (lambda: simulated_power(lambda rng: ["yes"], 2), "study's verdict = 'yes': unknown"),
        (lambda: simulated_power(lambda rng: [], 2, word="yes"), "word = 'yes': unknown"),
        (lambda: simulated_power(lambda rng: ["supported"] * rng.integers(1, 9), 50), "study returned"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
