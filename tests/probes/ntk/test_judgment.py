"""Planted truths are found, estimates are those of loops and scipy, and what forbids a verdict does."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.ntk import claims as named
from mlptheory.probes.ntk.simulation import COSINES, LOGARITHMS, SHARES
from tests.probes.ntk.conftest import PROBE, judged, plant, quiet, with_seeds

LARGE = {named.LAZIER, named.FAST, named.ALIGNMENT, named.BETTER, named.STANDARD, named.SCALE}
EQUAL = {
    named.FLUCTUATION,
    named.MATCHES,
    named.INFINITE,
    named.LINEARIZED,
    named.CURVE,
    named.COORDINATES,
    named.SHUFFLED,
    named.SHUFFLED_KERNEL,
}


@pytest.mark.parametrize(("times", "word"), [(3.0, "supported"), (0.0, "contradicted"), (-3.0, "contradicted")])
def test_planted_effects_are_found(times, word):
    verdicts = judged(PROBE, quiet(PROBE, effect=times))
    assert {name: verdicts[name].verdict for name in LARGE} == dict.fromkeys(LARGE, word)
    assert {verdicts[name].verdict for name in EQUAL} == {"supported"}


@pytest.mark.parametrize("off", [-2.0, 2.0])
def test_what_is_unequal_is_called_out(off):
    verdicts = judged(PROBE, quiet(PROBE, effect=3.0, off=off))
    # Two doublings, at 2δ off, are each shown to lie on the edge of what a power law allows.
    words = {name: verdicts[name].verdict for name in EQUAL - {named.FLUCTUATION}}
    assert words == dict.fromkeys(EQUAL - {named.FLUCTUATION}, "contradicted")
    assert verdicts[named.FLUCTUATION].verdict != "supported"


def test_deviations_that_cancel_in_the_mean_are_seen():
    verdicts = judged(PROBE, quiet(PROBE, effect=3.0, opposed=2.0))
    assert verdicts[named.CURVE].verdict == verdicts[named.COORDINATES].verdict == "contradicted"
    assert "Means +0.50, +0.00, -0.50" in verdicts[named.CURVE].reason


def test_a_bend_that_the_line_does_not_see_leaves_the_laws_open():
    verdicts = judged(PROBE, quiet(PROBE, effect=1.5, bend=10.0))
    for claim in (named.FLUCTUATION, named.LAZIER):
        assert verdicts[claim].verdict == "inconclusive" and "Not one power law: from width" in verdicts[claim].reason


def by_hand(table, block):
    """Return every claim's estimate of a block that is one number, by loops over rows."""
    rows = [row for row in table.to_dict("records") if row["block"] == block]

    def slope(role, parametrization, outcome):
        nets = sorted(
            (row["width"], row[outcome])
            for row in rows
            if (row["role"], row["parametrization"]) == (role, parametrization)
        )
        return np.polyfit([math.log(w) for w, _ in nets], [math.log(v) for _, v in nets], 1)[0]

    def one(role):
        return [row for row in rows if row["role"] == role]

    (center,), (shuffled,), (rich, lazy) = one("center"), one("shuffled"), one("scale")
    infinite = [
        r["infinite_kernel_accuracy"]
        for r in table.to_dict("records")
        if (r["role"], r["parametrization"], r["n"]) == ("infinite", "standard", 600)
    ]
    rise = center["label_alignment"] - center["label_alignment_initial"]
    return {
        named.FLUCTUATION: slope("ntk", "ntk", "kernel_deviation") + 0.5,
        named.LAZIER: -slope("ntk", "ntk", "kernel_change"),
        named.FAST: math.log2(center["kernel_velocity_first"] / center["kernel_velocity"]),
        named.ALIGNMENT: rise - center["permuted_alignment"] + center["permuted_alignment_initial"],
        named.BETTER: 100 * (center["final_kernel_accuracy"] - center["initial_kernel_accuracy"]),
        named.MATCHES: 100 * (center["final_kernel_accuracy"] - center["net_accuracy"]),
        named.INFINITE: 100 * (infinite[0] - center["net_accuracy"]),
        named.LINEARIZED: 100 * (center["linearized_accuracy"] - center["test_accuracy"]),
        named.STANDARD: slope("coordinates", "standard", "coordinate_logits"),
        named.SCALE: math.log2(rich["kernel_distance"] / lazy["kernel_distance"]),
        named.SHUFFLED: 100 * (shuffled["net_accuracy"] - shuffled["net_chance"]),
        named.SHUFFLED_KERNEL: 100 * (shuffled["final_kernel_accuracy"] - shuffled["final_kernel_chance"]),
    }


def deviations_by_hand(table, block):
    """Return the deviations of the learning curve and the slopes under μP."""
    rows = [row for row in table.to_dict("records") if row["block"] == block]
    (center,) = [row for row in rows if row["role"] == "center"]
    curve = [math.log2(center[f"curve_predicted_{part}"] / center[f"curve_measured_{part}"]) for part in (32, 16, 8)]
    nets = sorted(
        (row for row in rows if (row["role"], row["parametrization"]) == ("coordinates", "mup")),
        key=lambda row: row["width"],
    )
    slopes = [
        np.polyfit(np.log([n["width"] for n in nets]), np.log([n[f"coordinate_{layer}"] for n in nets]), 1)[0]
        for layer in ("embedding", "stream", "logits")
    ]
    return {named.CURVE: curve, named.COORDINATES: slopes}


def test_estimates_are_those_of_loops_and_scipy():
    table = PROBE.simulate(plant(effect=1.5, off=0.5), np.random.default_rng(7))
    estimates = pd.DataFrame([by_hand(table, block) for block in range(5)])
    verdicts = judged(PROBE, table)
    assert set(verdicts) == set(estimates) | {named.CURVE, named.COORDINATES}
    for claim in estimates:
        verdict, values = verdicts[claim], estimates[claim]
        assert verdict.n == 5 and verdict.effect == pytest.approx(np.mean(values), rel=1e-9)
        interval = scipy_stats.ttest_1samp(values, 0).confidence_interval(verdict.level)
        assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize(("claim", "parts"), [(named.CURVE, 3), (named.COORDINATES, 3)])
def test_room_is_that_of_the_largest_deviation(claim, parts):
    table = PROBE.simulate(plant(opposed=0.7), np.random.default_rng(8))
    deviations = np.array([deviations_by_hand(table, block)[claim] for block in range(5)])
    verdict = judged(PROBE, table)[claim]
    assert verdict.effect == pytest.approx(0.25 - np.abs(deviations.mean(axis=0)).max(), rel=1e-9)
    signed = np.concatenate([0.25 - deviations, 0.25 + deviations], axis=1)
    lows = [scipy_stats.ttest_1samp(column, 0).confidence_interval(verdict.level).low for column in signed.T]
    assert verdict.low == pytest.approx(min(lows), rel=1e-9)
    level = 1 - (1 - verdict.level) / (2 * parts)
    highs = [scipy_stats.ttest_1samp(column, 0).confidence_interval(level).high for column in signed.T]
    assert verdict.high == pytest.approx(min(highs), rel=1e-9)


OF_CENTER = {
    named.FAST,
    named.ALIGNMENT,
    named.BETTER,
    named.MATCHES,
    named.INFINITE,
    named.LINEARIZED,
    named.CURVE,
}


@pytest.mark.parametrize(
    ("role", "parametrization", "touched"),
    [
        ("center", "standard", OF_CENTER),
        ("width", "standard", set()),
        ("size", "standard", set()),
        ("rate", "standard", set()),
        ("optimizer", "standard", set()),
        ("ntk", "ntk", {named.FLUCTUATION, named.LAZIER}),
        ("mup", "mup", set()),
        ("coordinates", "standard", {named.STANDARD}),
        ("coordinates", "mup", {named.COORDINATES}),
        ("scale", "standard", {named.SCALE}),
        ("shuffled", "standard", {named.SHUFFLED, named.SHUFFLED_KERNEL}),
    ],
)
def test_a_run_that_diverged_leaves_every_claim_that_uses_its_like_open(role, parametrization, touched):
    table = quiet(PROBE, effect=3.0)
    index = table[(table["role"] == role) & (table["parametrization"] == parametrization)].index[0]
    table.loc[index, [*LOGARITHMS, *SHARES, *COSINES]] = np.nan
    table.loc[index, "diverged"] = True
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if "diverged" in verdict.reason} == touched
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == touched


def test_a_linearized_net_that_diverged_leaves_its_claim_open():
    table = quiet(PROBE, effect=3.0)
    table.loc[table.index[table["role"] == "center"][0], "linearized_accuracy"] = math.nan
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == {named.LINEARIZED}
    assert "1 of 5 blocks lack an outcome" in verdicts[named.LINEARIZED].reason


def test_a_kernel_that_stands_still_has_no_ratio():
    table = quiet(PROBE, effect=3.0)
    table.loc[table["role"] == "center", "kernel_velocity"] = 0.0
    verdict = judged(PROBE, table)[named.FAST]
    assert verdict.verdict == "inconclusive" and verdict.n == 0


def test_everything_diverged_is_judged_and_shown_without_an_error():
    table = PROBE.simulate(plant(diverged=1.0), np.random.default_rng(3))
    verdicts = PROBE.judge(table)
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
    shown = PROBE.effects(table)
    assert set(shown["n"]) <= {0, 5} and shown["mean"].isna().any()


def test_reasons_have_means_of_what_is_there():
    table = quiet(PROBE, effect=3.0)
    rows = table.index[table["role"].isin(["center", "shuffled", "scale"]) & (table["block"] == 0)]
    table.loc[rows, [*LOGARITHMS, *SHARES, *COSINES]], table.loc[rows, "diverged"] = np.nan, True
    verdicts = judged(PROBE, table)
    assert not [verdict.reason for verdict in verdicts.values() if "nan" in verdict.reason]
    assert "Means 90.00 and 90.00 %" in verdicts[named.MATCHES].reason
    table.loc[table["role"] == "infinite", "infinite_kernel_accuracy"] = np.nan
    assert "Infinite kernel unknown %" in judged(PROBE, table)[named.INFINITE].reason


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict_and_say_so(seeds):
    probe = with_seeds(seeds)
    for verdict in probe.judge(quiet(probe, effect=3.0)):
        assert verdict.verdict == "inconclusive" and f"{seeds} independent" in verdict.reason


def test_judging_is_pure_and_the_order_of_rows_changes_nothing():
    table = PROBE.simulate(plant(effect=2.0, diverged=0.02), np.random.default_rng(6))
    before = table.copy(deep=True)
    first = PROBE.judge(table)
    pd.testing.assert_frame_equal(table, before)
    assert PROBE.judge(table.sample(frac=1, random_state=0)) == first


def test_a_whole_table_from_json_is_judged_the_same():
    table = PROBE.simulate(plant(effect=2.0), np.random.default_rng(1))
    again = pd.DataFrame(
        [[None if pd.isna(value) else value for value in row] for row in table.itertuples(index=False)],
        columns=table.columns,
    )
    assert PROBE.judge(again) == PROBE.judge(table)


def test_verdicts_come_in_the_order_of_the_claims():
    assert [verdict.id for verdict in PROBE.judge(quiet(PROBE))] == [claim.id for claim in PROBE.claims()]
