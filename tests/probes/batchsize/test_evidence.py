"""Estimates against independent twins, what forbids a verdict, and whose rows a claim rests on."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.claims import (
    A_A,
    CNN,
    EVERY_LENGTH,
    EXAMPLES,
    GROWS,
    LEAK,
    MAIN,
    NOISE_SCALE,
    SHARPNESS,
    TUNING,
)
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
from tests.probes.batchsize.conftest import PROBE, WIDE, judged, plant, quiet

TABLE = WIDE.simulate(
    plant(change=2.0, growth=1.0, cnn=-1.0, sharpness=1.0, examples=1.0, drift=1.5), np.random.default_rng(4)
)


def evidence(probe, table, claim):
    return gather(probe, Cells(probe, table), choose(probe, table), claim)


def changes(table, outcome, *, role="run", arm="mlp", policy="fixed", length, blocks=range(5), log=False):
    """Return each block's fitted change by numpy's own least squares, row by row."""
    found = []
    for block in blocks:
        rows = table.query("role == @role and arm == @arm and policy == @policy and length == @length")
        rows = rows[rows["block"] == block]
        y = outcome(rows).to_numpy(dtype=float)
        x = np.log2(rows["batch_size"].to_numpy(dtype=float))
        found.append(np.polyfit(x, np.log2(y) if log else y, 1)[0] * (x.max() - x.min()))
    return np.array(found)


def accuracy(rows):
    return 100 * rows["test_accuracy"]


def check(estimate, values):
    """Compare with scipy's one-sample t interval."""
    for level in (0.9, 0.95, 0.995):
        expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(level)
        interval = estimate.interval(level)
        assert interval.estimate == pytest.approx(np.mean(values), rel=1e-9)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-8)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(
    ("claim", "policy"), [(MAIN, "fixed"), (f"{MAIN}-linear", "linear"), (f"{MAIN}-sqrt", "sqrt"), (TUNING, "tuned")]
)
def test_a_main_estimate_is_the_mean_over_lengths_of_a_line_fitted_in_each_block(claim, policy, shuffled):
    table = TABLE.sample(frac=1, random_state=1) if shuffled else TABLE
    per_length = [changes(table, accuracy, policy=policy, length=length) for length in (5, 20)]
    found = evidence(WIDE, table, claim)
    check(found.estimate, np.mean(per_length, axis=0))
    assert found.n == 5 and found.forced is None


def test_the_growth_is_the_longest_less_the_shortest_whatever_their_order():
    long, short = (changes(TABLE, accuracy, policy="tuned", length=length) for length in (20, 5))
    for lengths in ((20, 5), (5, 20)):
        check(evidence(dataclasses.replace(WIDE, lengths=lengths), TABLE, GROWS).estimate, long - short)


def test_the_interval_of_every_length_is_that_of_the_smallest_change():
    per_length = [changes(TABLE, accuracy, length=length) for length in (5, 20)]
    found = evidence(WIDE, TABLE, EVERY_LENGTH).estimate.interval(0.95)
    each = [scipy_stats.ttest_1samp(values, 0) for values in per_length]
    assert found.estimate == pytest.approx(min(values.mean() for values in per_length))
    assert found.low == pytest.approx(min(test.confidence_interval(0.95).low for test in each))
    assert found.high == pytest.approx(min(test.confidence_interval(0.975).high for test in each))


def test_the_opposition_to_the_cnn_is_the_smaller_of_the_two():
    mlp, cnn = (
        np.mean([changes(TABLE, accuracy, arm=arm, policy="tuned", length=length) for length in (5, 20)], axis=0)
        for arm in ("mlp", "cnn")
    )
    found = evidence(WIDE, TABLE, CNN)
    for component, values in zip(found.estimate.components, (mlp, -cnn), strict=True):
        check(component, values)
    assert found.estimate.interval(0.95).estimate == pytest.approx(min(mlp.mean(), -cnn.mean()))
    assert f"MLP {mlp.mean():+.2f}, CNN {cnn.mean():+.2f}" in found.note


def test_sharpness_is_compared_in_doublings_on_the_seeds_it_is_measured_on():
    probe = dataclasses.replace(WIDE, curvature_seeds=3)
    values = changes(TABLE, lambda rows: rows["sharpness_at_target"], length=20, blocks=range(3), log=True)
    found = evidence(probe, TABLE, SHARPNESS)
    check(found.estimate, values)
    assert found.n == 3 and "squared norm" not in found.note
    table = TABLE.assign(norm_weighted_sharpness_at_target=TABLE["sharpness_at_target"] * TABLE["batch_size"])
    noted = evidence(probe, table, SHARPNESS)
    check(noted.estimate, values)
    assert f"squared norm: {values.mean() + 4:+.2f}." in noted.note, "log2(256 / 16) more"


def test_examples_to_the_target_are_compared_in_doublings():
    values = changes(TABLE, lambda rows: rows["examples_to_target"], policy="tuned", length=20, log=True)
    check(evidence(WIDE, TABLE, EXAMPLES).estimate, values)


def test_the_a_a_control_is_fitted_over_its_labels():
    check(evidence(WIDE, TABLE, A_A).estimate, changes(TABLE, accuracy, role="a-a", length=5))


def test_the_leak_is_accuracy_above_chance():
    rows = TABLE[TABLE["role"] == "shuffled"]
    check(evidence(WIDE, TABLE, LEAK).estimate, 100 * (rows["test_accuracy"] - rows["chance_accuracy"]))


def test_the_noise_scale_control_is_one_more_than_the_slope_of_log_excess():
    slopes = [
        np.polyfit(np.log2(rows["batch_size"].astype(float)), np.log2(rows["excess_loss"]), 1)[0]
        for _, rows in TABLE[TABLE["role"] == "noise-scale"].groupby("block")
    ]
    assert len(slopes) == 16
    check(evidence(WIDE, TABLE, NOISE_SCALE).estimate, 1 + np.array(slopes))


# What forbids a verdict


def forced(probe, table):
    return {claim.id: evidence(probe, table, claim.id).forced for claim in probe.claims()}


def spoil(table, query, **values):
    table = table.copy()
    rows = table.eval(query)
    assert rows.any()
    for name, value in values.items():
        table.loc[rows, name] = value
    return table


@pytest.fixture(scope="module")
def calm():
    table = quiet(WIDE, change=8.0, growth=4.0, cnn=-8.0, sharpness=8.0, examples=8.0)
    assert not any(forced(WIDE, table).values())
    return table


AT_FIXED = {MAIN, EVERY_LENGTH, SHARPNESS}
AT_TUNED = {TUNING, GROWS, CNN, EXAMPLES}


@pytest.mark.parametrize(
    ("where", "hit"),
    [
        ("role == 'run' and arm == 'mlp' and policy == 'fixed'", AT_FIXED),
        ("role == 'run' and arm == 'mlp' and policy == 'tuned'", AT_TUNED),
        ("role == 'run' and arm == 'mlp' and policy == 'sqrt'", {f"{MAIN}-sqrt"}),
        ("role == 'run' and arm == 'cnn' and policy == 'tuned'", {CNN}),
        ("role == 'run' and arm == 'cnn' and policy == 'fixed'", set()),
        ("role == 'a-a'", {A_A}),
        ("role == 'shuffled'", {LEAK}),
        ("role == 'noise-scale'", {NOISE_SCALE}),
    ],
)
def test_a_diverged_run_forces_those_claims_that_rest_on_it_and_no_other(calm, where, hit):
    place = calm.query(f"{where} and block == 0").index[-1]
    table = calm.copy()
    outcomes = ["test_accuracy", "sharpness_at_target", "examples_to_target", "excess_loss"]
    table.loc[place, outcomes], table.loc[place, "diverged"] = np.nan, True
    found = {claim: reason for claim, reason in forced(WIDE, table).items() if reason}
    assert set(found) == hit
    size = table.loc[place, "batch_size"]
    assert all(reason.startswith("1 of ") and f"diverged (batch size {size})" in reason for reason in found.values())


@pytest.mark.parametrize(("arm", "hit"), [("mlp", AT_TUNED), ("cnn", {CNN})])
def test_an_optimum_on_the_edge_of_its_grid_forces_what_rests_on_tuned_runs(calm, arm, hit):
    tuning = (calm["role"] == "tuning") & (calm["arm"] == arm)
    table = calm.copy()
    table.loc[tuning, "validation_accuracy"] = table.loc[tuning, "lr"]
    found = {claim: reason for claim, reason in forced(WIDE, table).items() if reason}
    assert set(found) == hit and all("edge of its grid" in reason for reason in found.values())
    assert judged(WIDE, table)[CNN].p is None


def test_a_design_whose_first_policy_is_tuned_judges_every_length_there_edges_included(calm):
    probe = dataclasses.replace(WIDE, lr_policies=("tuned", "fixed"))
    values = [changes(calm, accuracy, policy="tuned", length=length).mean() for length in (5, 20)]
    assert evidence(probe, calm, EVERY_LENGTH).estimate.estimate == pytest.approx(min(values))
    table = calm.copy()
    tuning = table["role"] == "tuning"
    table.loc[tuning, "validation_accuracy"] = table.loc[tuning, "lr"]
    assert "edge of its grid" in evidence(probe, table, EVERY_LENGTH).forced


def test_a_run_without_its_target_forces_the_claim_and_is_counted(calm):
    at = "role == 'run' and arm == 'mlp' and length == 20 and block == 3 and batch_size == 64"
    found = forced(WIDE, spoil(calm, f"{at} and policy == 'tuned'", examples_to_target=np.nan))
    assert found[EXAMPLES] == "1 of 15 runs did not reach 90 % from below (batch size 64), so the rest are selected."
    assert [claim for claim, reason in found.items() if reason] == [EXAMPLES]
    found = forced(WIDE, spoil(calm, f"{at} and policy == 'fixed'", sharpness_at_target=np.nan))
    assert "1 of 15 runs have no eigenvalue at the target training loss" in found[SHARPNESS]
    assert [claim for claim, reason in found.items() if reason] == [SHARPNESS]


def test_a_run_that_starts_at_its_target_has_no_steps_to_it(calm):
    at = "role == 'run' and arm == 'mlp' and length == 20 and block == 3 and batch_size == 64 and policy == 'tuned'"
    table = spoil(calm, at, examples_to_target=0.0)
    verdict = judged(WIDE, table)[EXAMPLES]
    assert verdict.verdict == "inconclusive" and verdict.n == 4 and "from below" in verdict.reason
    assert np.isfinite(WIDE.effects(table).query("quantity.str.startswith('examples')")["mean"]).all()


HUMPED = BatchSize(
    batch_sizes=(16, 64, 256, 1024), lengths=(5, 20), seeds=8, control=False, lr_policies=("fixed",), curvature_seeds=0
)


def test_a_hump_is_not_called_support_though_the_line_rises():
    rising = judged(HUMPED, quiet(HUMPED, change=6.0))[MAIN]
    hump = judged(HUMPED, quiet(HUMPED, change=6.0, hump=12.0))[MAIN]
    assert rising.verdict == "supported" and "at batch size 1024" in rising.reason
    assert hump.low > HUMPED.margin
    assert hump.verdict == "inconclusive" and "over all lengths, batch size 256 beats" in hump.reason


def test_a_hump_at_one_length_stops_the_claim_about_every_length():
    table = spoil(quiet(HUMPED, change=8.0), "length == 5 and batch_size == 256", test_accuracy=0.95)
    verdicts = judged(HUMPED, table)
    assert verdicts[EVERY_LENGTH].low > HUMPED.margin
    assert verdicts[EVERY_LENGTH].verdict == "inconclusive"
    assert "at length 5, batch size 256 beats" in verdicts[EVERY_LENGTH].reason


def test_a_hump_on_a_line_that_falls_does_not_hide_a_contradiction():
    verdict = judged(HUMPED, quiet(HUMPED, change=-6.0, hump=12.0))[MAIN]
    assert verdict.verdict == "contradicted"


# Whose rows a claim rests on


RESTS_ON = {
    MAIN: ("role == 'run' and arm == 'mlp' and policy == 'fixed'", "test_accuracy"),
    f"{MAIN}-linear": ("role == 'run' and arm == 'mlp' and policy == 'linear'", "test_accuracy"),
    f"{MAIN}-sqrt": ("role == 'run' and arm == 'mlp' and policy == 'sqrt'", "test_accuracy"),
    TUNING: ("role == 'run' and arm == 'mlp' and policy == 'tuned'", "test_accuracy"),
    EVERY_LENGTH: ("role == 'run' and arm == 'mlp' and policy == 'fixed'", "test_accuracy"),
    GROWS: ("role == 'run' and arm == 'mlp' and policy == 'tuned'", "test_accuracy"),
    CNN: ("role == 'run' and policy == 'tuned'", "test_accuracy"),
    SHARPNESS: ("role == 'run' and arm == 'mlp' and policy == 'fixed' and length == 20", "sharpness_at_target"),
    EXAMPLES: ("role == 'run' and arm == 'mlp' and policy == 'tuned' and length == 20", "examples_to_target"),
    A_A: ("role == 'a-a'", "test_accuracy"),
    LEAK: ("role == 'shuffled'", "test_accuracy"),
    NOISE_SCALE: ("role == 'noise-scale'", "excess_loss"),
}


def test_every_claim_is_in_the_list_of_what_it_rests_on():
    assert set(RESTS_ON) == {claim.id for claim in WIDE.claims()}


@pytest.mark.parametrize("claim", RESTS_ON)
def test_a_claim_rests_on_its_own_rows_and_outcome_alone(claim):
    query, outcome = RESTS_ON[claim]
    own, rng = TABLE.eval(query).to_numpy(), np.random.default_rng(7)
    foreign = TABLE.copy()
    for name in ("test_accuracy", "sharpness_at_target", "examples_to_target", "excess_loss", "chance_accuracy"):
        mine = own if name in (outcome, "chance_accuracy") else np.zeros(len(own), dtype=bool)
        foreign.loc[~mine, name] = rng.uniform(0.1, 0.9, (~mine).sum())
    # A run of another length that diverged forbids a verdict at the longest too: its policy does not train safely.
    near = TABLE.eval(query.replace(" and length == 20", "")).to_numpy()
    foreign.loc[~near & (foreign["role"] != "tuning").to_numpy(), "diverged"] = True
    assert evidence(WIDE, foreign, claim) == evidence(WIDE, TABLE, claim)
    changed = TABLE.copy()
    changed.loc[own, outcome] = rng.uniform(0.1, 0.9, own.sum())
    assert evidence(WIDE, changed, claim).estimate != evidence(WIDE, TABLE, claim).estimate


def test_a_block_that_misses_a_run_is_left_out():
    table = spoil(
        TABLE, "role == 'run' and policy == 'fixed' and block == 2 and batch_size == 64", test_accuracy=np.nan
    )
    assert evidence(WIDE, table, MAIN).n == 4
    rest = np.mean([changes(TABLE, accuracy, length=length, blocks=(0, 1, 3, 4)) for length in (5, 20)], axis=0)
    check(evidence(WIDE, table, MAIN).estimate, rest)


def test_lack_of_fit_is_told_where_there_is_a_third_batch_size():
    assert "Lack of fit of the line: p = " in evidence(PROBE, quiet(PROBE, hump=4.0), MAIN).note
    two = dataclasses.replace(PROBE, batch_sizes=(16, 64))
    assert "Lack of fit" not in evidence(two, quiet(two), MAIN).note


def test_a_column_that_is_absent_counts_as_missing_everywhere():
    found = evidence(WIDE, TABLE.drop(columns="sharpness_at_target"), SHARPNESS)
    assert found.estimate is None and found.n == 0 and "15 of 15 runs" in found.forced
    assert pd.isna(Cells(WIDE, TABLE).of("noise_scale", "run", "mlp", "fixed", 20)).all()
