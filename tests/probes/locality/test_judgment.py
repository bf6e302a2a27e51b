"""Planted effects are found, estimates are those of loops and scipy, and what forbids a verdict does."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.locality import claims as named
from tests.probes.locality.conftest import MANY, PROBE, judged, plant, quiet

EFFECTS = {
    "augmentation": named.AUGMENTATION,
    "data": named.DATA,
    "only": named.ONLY,
    "initialization": named.INITIALIZATION,
    "gaussian": named.GAUSSIAN,
    "shuffled": named.SHUFFLED,
    "positive": named.POSITIVE,
}
EVERY = set(EFFECTS.values()) | {named.NULL}
STATISTICS = ("local_share", "ipr", "spread")


@pytest.mark.parametrize("of", ["change", "weights"])
@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(("times", "word"), [(3.0, "supported"), (0.0, "contradicted"), (-3.0, "contradicted")])
def test_planted_effects_of_every_kind_are_found(times, word, statistic, of):
    probe = dataclasses.replace(MANY, statistic=statistic, of=of)
    verdicts = judged(probe, quiet(probe, **dict.fromkeys(EFFECTS, times)))
    assert {verdict.verdict for name, verdict in verdicts.items() if name != named.NULL} == {word}
    assert statistic == "ipr" or verdicts[named.NULL].verdict == "supported"


@pytest.mark.parametrize("statistic", ["local_share", "spread"])
def test_places_that_mean_something_at_initialization_are_called_out(statistic):
    probe = dataclasses.replace(MANY, statistic=statistic)
    assert judged(probe, quiet(probe, null=3.0))[named.NULL].verdict == "contradicted"


@pytest.mark.parametrize(("effect", "claim"), EFFECTS.items())
def test_an_effect_moves_its_own_claim_alone(effect, claim):
    verdicts = judged(PROBE, quiet(PROBE, **{effect: 4.0}))
    found = {name for name, verdict in verdicts.items() if verdict.verdict == "supported"}
    assert found - {named.NULL} == {claim}


def test_what_data_do_in_both_arms_is_not_augmentations():
    verdicts = judged(PROBE, quiet(PROBE, data=8.0))
    assert verdicts[named.DATA].verdict == "supported" and verdicts[named.ONLY].verdict == "contradicted"
    assert "Change augmented +8.00, plain +8.00" in verdicts[named.ONLY].reason


def test_a_hump_stands_in_the_way_of_support_alone():
    risen = judged(PROBE, quiet(PROBE, data=4.0, only=4.0, hump=8.0))
    assert risen[named.DATA].verdict == risen[named.ONLY].verdict == "inconclusive"
    assert "with augmentation, training-set size 300 beats the largest by" in risen[named.DATA].reason
    assert "percentage points of the squared norm" in risen[named.DATA].reason
    flat = judged(PROBE, quiet(PROBE, hump=8.0))
    assert flat[named.DATA].verdict == flat[named.ONLY].verdict == "contradicted"
    dipped = judged(PROBE, quiet(PROBE, data=4.0, only=4.0, dip=8.0))
    assert dipped[named.DATA].verdict == "supported" and dipped[named.ONLY].verdict == "inconclusive"


def local(statistic, row, of, reference=""):
    """The statistic of a row of a table, greater for what is more local."""
    value = row["_".join(filter(None, (of, statistic, reference)))]
    return {
        "local_share": 100 * value,
        "ipr": 100 * value / row["initial_ipr"] if statistic == "ipr" else None,
        "spread": -100 * value / row["initial_spread"] if statistic == "spread" else None,
    }[statistic]


def by_hand(probe, table, block):
    """Return every claim's estimate of a block, by loops over rows."""
    statistic, of = probe.statistic, probe.of
    rows = [row for row in table.to_dict("records") if row["block"] == block]

    def one(role, arm, n):
        (row,) = [r for r in rows if (r["role"], r["arm"], r["n"]) == (role, arm, n)]
        return row

    def slope(arm):
        nets = [one("size", arm, 75), one("size", arm, 300), one("center", arm, 1197)]
        values = [local(statistic, net, of) for net in nets]
        return math.log2(1197 / 75) * np.polyfit(np.log2([75, 300, 1197]), values, 1)[0]

    net, plain = one("center", "augmented", 1197), one("center", "plain", 1197)
    textures = {r["dataset"]: local(statistic, r, of) for r in rows if r["role"] == "control"}
    found = {
        named.AUGMENTATION: local(statistic, net, of) - local(statistic, plain, of),
        named.DATA: slope("augmented"),
        named.ONLY: slope("augmented") - slope("plain"),
        named.INITIALIZATION: local(statistic, net, "weights") - local(statistic, net, "initial"),
        named.GAUSSIAN: local(statistic, net, of) - local(statistic, net, of, "gaussian"),
        named.POSITIVE: textures["edges"] - textures["edges-gaussian"],
    }
    if statistic != "ipr":
        found[named.SHUFFLED] = local(statistic, net, of) - local(statistic, net, of, "shuffled")
        found[named.NULL] = local(statistic, net, "initial") - local(statistic, net, "initial", "shuffled")
    return found


@pytest.mark.parametrize("of", ["change", "weights"])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_estimates_are_those_of_loops_and_scipy(statistic, of):
    probe = dataclasses.replace(PROBE, statistic=statistic, of=of)
    table = probe.simulate(plant(**dict.fromkeys(EFFECTS, 1.5)), np.random.default_rng(7))
    estimates = pd.DataFrame([by_hand(probe, table, block) for block in range(5)])
    verdicts = judged(probe, table)
    assert set(verdicts) == set(estimates)
    for claim, verdict in verdicts.items():
        values = estimates[claim]
        assert verdict.n == 5 and verdict.effect == pytest.approx(np.mean(values), rel=1e-9)
        interval = scipy_stats.ttest_1samp(values, 0).confidence_interval(verdict.level)
        assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@pytest.mark.parametrize(
    ("role", "arm", "touched"),
    [
        ("center", "augmented", EVERY - {named.POSITIVE}),
        ("center", "plain", {named.AUGMENTATION, named.ONLY}),
        ("size", "augmented", {named.DATA, named.ONLY}),
        ("size", "plain", {named.ONLY}),
        ("steps", "augmented", set()),
        ("epochs", "plain", set()),
        ("decay", "augmented", set()),
        ("optimizer", "augmented", set()),
        ("control", "", {named.POSITIVE}),
    ],
)
def test_a_run_that_diverged_leaves_every_claim_that_uses_its_like_open(role, arm, touched):
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 4.0))
    index = table[(table["role"] == role) & (table["arm"] == arm)].index[0]
    table.loc[index, [name for name in table if "_share" in name]] = np.nan
    table.loc[index, "diverged"] = True
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if "diverged" in verdict.reason} == touched
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == touched


def test_a_net_without_the_outcome_leaves_every_claim_that_needs_it_open():
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 4.0))
    at = (table["role"] == "center") & (table["arm"] == "plain")
    table.loc[table.index[at][0], "change_local_share"] = math.nan
    verdicts = judged(PROBE, table)
    open_ones = {name for name, verdict in verdicts.items() if "1 of" in verdict.reason and "lack" in verdict.reason}
    assert open_ones == {named.AUGMENTATION, named.ONLY}
    assert all(verdicts[name].verdict == "inconclusive" for name in open_ones)


def test_everything_diverged_is_judged_and_shown_without_an_error():
    table = PROBE.simulate(plant(diverged=1.0), np.random.default_rng(3))
    verdicts = PROBE.judge(table)
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
    assert all(verdict.effect is None and verdict.n == 0 for verdict in verdicts)
    effects = PROBE.effects(table)
    assert effects["n"].eq(0).all() and effects["mean"].isna().all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict_and_say_so(seeds):
    probe = dataclasses.replace(PROBE, seeds=seeds)
    for verdict in probe.judge(quiet(probe, **dict.fromkeys(EFFECTS, 50.0))):
        assert verdict.verdict == "inconclusive" and f"{seeds} independent" in verdict.reason


def test_judging_is_pure_and_the_order_of_rows_changes_nothing():
    table = PROBE.simulate(plant(data=2.0, diverged=0.02), np.random.default_rng(6))
    before = table.copy(deep=True)
    first = PROBE.judge(table)
    pd.testing.assert_frame_equal(table, before)
    assert PROBE.judge(table.sample(frac=1, random_state=0)) == first


def test_a_whole_table_from_json_is_judged_the_same():
    table = PROBE.simulate(plant(data=2.0), np.random.default_rng(1))
    again = pd.DataFrame(
        [[None if pd.isna(value) else value for value in row] for row in table.itertuples(index=False)],
        columns=table.columns,
    )
    assert PROBE.judge(again) == PROBE.judge(table)


def test_verdicts_come_in_the_order_of_the_claims():
    assert [verdict.id for verdict in PROBE.judge(quiet(PROBE))] == [claim.id for claim in PROBE.claims()]
