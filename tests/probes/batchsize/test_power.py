"""What a number of seeds is said to show, found again by simulation."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize.claims import A_A, LEAK, MAIN, NOISE_SCALE, SHARPNESS, TUNING
from tests.probes.batchsize.conftest import PROBE, WIDE, plant


def number(text, before):
    return float(re.search(rf"{before} ([\d.]+)", text).group(1))


def found_beyond(effect, margin, spread, seeds, level, studies=20_000, seed=0):
    """Return the share of studies whose interval at a level lies above the margin."""
    values = np.random.default_rng(seed).normal(effect, spread, (studies, seeds))
    half = scipy_stats.t.ppf((1 + level) / 2, seeds - 1) * values.std(axis=1, ddof=1) / np.sqrt(seeds)
    return np.mean(values.mean(axis=1) - half > margin)


def test_without_a_pilot_power_is_in_spreads_at_holms_first_level():
    power = PROBE.power(None)
    assert set(power) == {claim.id for claim in PROBE.claims()}
    signed = sum(claim.direction != "equivalent" for claim in PROBE.claims())
    effect = number(power[MAIN], "an effect")
    assert "spreads beyond δ" in power[MAIN] and "without a pilot" in power[MAIN]
    assert found_beyond(1.0 + effect, 1.0, 1.0, 5, 1 - 0.05 / signed) == pytest.approx(0.9, abs=0.02)


def test_more_claims_need_larger_effects():
    alone = BatchSize(lengths=(5,), lr_policies=("fixed",), curvature_seeds=0, target_accuracy=None, seeds=5)
    one = number(alone.power(None)[MAIN], "an effect")
    assert one < number(PROBE.power(None)[MAIN], "an effect")
    assert found_beyond(one, 0.0, 1.0, 5, 0.95) == pytest.approx(0.9, abs=0.02)


def test_the_controls_power_is_that_of_the_equivalence():
    """At the spread the plan names, 90 % of null controls lie within ±δ; found again by simulation."""
    probe = dataclasses.replace(PROBE, seeds=6)
    for claim, margin, seeds in ((A_A, 1.0, 6), (LEAK, 5.0, 6), (NOISE_SCALE, 0.25, 16)):
        text = probe.power(None)[claim]
        assert text.startswith(f"with {seeds} seeds")
        largest = number(text, "at most")
        values = np.random.default_rng(2).normal(0, largest, (20_000, seeds))
        half = scipy_stats.t.ppf(0.975, seeds - 1) * values.std(axis=1, ddof=1) / np.sqrt(seeds)
        assert np.mean(abs(values.mean(axis=1)) + half < margin) == pytest.approx(0.9, abs=0.03)


def test_too_few_seeds_are_told():
    power = dataclasses.replace(PROBE, seeds=2).power(None)
    assert all("2 seeds are too few" in text for claim, text in power.items() if claim != NOISE_SCALE)
    power = dataclasses.replace(PROBE, curvature_seeds=1).power(None)
    assert "1 seeds are too few" in power[SHARPNESS] and "too few" not in power[MAIN]


def pilot(probe, seed=0, **parameters):
    return SimpleNamespace(probe=probe, table=probe.simulate(plant(**parameters), np.random.default_rng(seed)))


def test_a_pilots_spread_is_that_of_what_the_interval_is_of():
    table = pilot(PROBE).table
    rows = table[(table["role"] == "run") & (table["policy"] == "fixed")]
    slopes = rows.groupby(["block", "length"])[["batch_size", "test_accuracy"]].apply(
        lambda each: 4 * np.polyfit(np.log2(each["batch_size"].astype(float)), 100 * each["test_accuracy"], 1)[0]
    )
    spread = slopes.groupby("block").mean().std(ddof=1)
    text = dataclasses.replace(PROBE, seeds=8).power(pilot(PROBE))[MAIN]
    assert f"pilot's spread {spread:.2g} percentage points: 8 seeds" in text
    level = 1 - 0.05 / sum(claim.direction != "equivalent" for claim in PROBE.claims())
    assert found_beyond(number(text, "an effect of"), 1.0, spread, 8, level) == pytest.approx(0.9, abs=0.03)
    runs = int(re.search(r"needs (\d+) seeds", text).group(1))
    assert found_beyond(2.0, 1.0, spread, runs, level) > 0.89 > found_beyond(2.0, 1.0, spread, runs - 2, level) - 0.02
    assert text.startswith("inconclusive by design") == (runs > 8)


def test_a_pilot_at_one_learning_rate_is_the_nearest_there_is_for_tuned_ones():
    plain = dataclasses.replace(PROBE, lr_policies=("fixed",))
    power = PROBE.power(pilot(plain))
    spread = re.search(r"pilot's spread [\d.]+", power[MAIN]).group()
    assert spread in power[TUNING]


def test_a_pilot_without_spread_or_of_two_seeds_or_diverged_is_no_error():
    for told in (pilot(dataclasses.replace(WIDE, seeds=2)), pilot(WIDE, diverged=1.0), pilot(PROBE)):
        assert set(WIDE.power(told)) == {claim.id for claim in WIDE.claims()}
    assert "without a pilot" in WIDE.power(pilot(WIDE, diverged=1.0))[MAIN]


def test_a_pilot_of_another_probe_is_refused():
    with pytest.raises(InputError, match=r"pilot: expected a result of batchsize, found one of other"):
        PROBE.power(SimpleNamespace(probe=SimpleNamespace(name="other"), table=None))
