"""All claims of a table together: Holm's levels, purity, and tables in which nothing is left."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes import BatchSize
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
from tests.probes.batchsize.conftest import PROBE, WIDE, judged, plant, quiet

CONTROLS = (A_A, LEAK, NOISE_SCALE)
MANY = dataclasses.replace(WIDE, seeds=24, tuning_seeds=1)
"""Seeds enough for the leak check, whose runs spread by 4 points in every simulation."""
SIGNED = {claim.id for claim in WIDE.claims()} - set(CONTROLS)


def test_planted_effects_of_every_kind_are_found():
    effects = {"growth": 8.0, "cnn": -8.0, "sharpness": 8.0, "examples": 8.0}
    verdicts = judged(MANY, quiet(MANY, change=8.0, **effects))
    assert {verdict.verdict for verdict in verdicts.values()} == {"supported"}


def test_planted_effects_against_every_claim_are_found():
    effects = {"growth": -8.0, "cnn": 8.0, "sharpness": -8.0, "examples": -8.0, "control": 3.0}
    verdicts = judged(WIDE, quiet(WIDE, change=-8.0, **effects))
    assert {verdict.verdict for verdict in verdicts.values()} == {"contradicted"}


def test_no_effect_contradicts_every_claim_and_passes_every_control():
    verdicts = judged(MANY, quiet(MANY))
    assert {verdicts[claim].verdict for claim in SIGNED} == {"contradicted"}
    assert {verdicts[claim].verdict for claim in CONTROLS} == {"supported"}


@pytest.mark.parametrize(
    ("planted", "word"),
    [({"change": 8.0, "cnn": 8.0}, "contradicted"), ({"change": -8.0, "cnn": -8.0}, "contradicted")],
)
def test_both_models_must_go_as_claimed(planted, word):
    assert judged(WIDE, quiet(WIDE, **planted))[CNN].verdict == word


def test_one_length_that_falls_short_contradicts_every_length_but_not_the_mean():
    verdicts = judged(PROBE, quiet(PROBE, change=4.0, growth=8.0))
    assert verdicts[MAIN].verdict == "supported"
    assert "+8." in verdicts[MAIN].reason.split("at 20,")[0] and "at 5." in verdicts[MAIN].reason
    assert verdicts[EVERY_LENGTH].verdict == "contradicted"
    assert "that at length 5." in verdicts[EVERY_LENGTH].reason
    assert verdicts[GROWS].verdict == "supported"


def test_one_noisy_length_leaves_every_length_open():
    table = quiet(PROBE, change=8.0)
    noisy = (table["role"] == "run") & (table["length"] == 5)
    table.loc[noisy, "test_accuracy"] += np.random.default_rng(1).normal(0, 0.08, noisy.sum())
    verdict = judged(PROBE, table)[EVERY_LENGTH]
    assert verdict.verdict == "inconclusive" and verdict.low < PROBE.margin < verdict.high


@pytest.mark.parametrize("claim", CONTROLS)
def test_a_control_that_is_off_is_called_out(claim):
    verdicts = judged(WIDE, quiet(WIDE, change=8.0, control=3.0))
    assert verdicts[claim].verdict == "contradicted"


def test_noise_that_hides_the_effect_is_inconclusive_and_says_how_many_seeds_would_do():
    verdict = judged(PROBE, PROBE.simulate(plant(change=1.5), np.random.default_rng(5)))[MAIN]
    assert verdict.verdict == "inconclusive"
    assert "runs" in verdict.reason and "90 % power" in verdict.reason


def holm_by_hand(ps):
    """Return adjusted p-values and each claim's step in the order of its p-value."""
    order = np.argsort(ps, kind="stable")
    adjusted, largest = np.empty(len(ps)), 0.0
    for step, place in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - step) * ps[place]))
        adjusted[place] = largest
    return adjusted, np.argsort(order)


def test_holms_levels_are_shown_and_controls_have_their_own():
    table = PROBE.simulate(plant(change=6.0, growth=2.0, sharpness=9.0, examples=3.0), np.random.default_rng(2))
    verdicts = judged(PROBE, table)
    signed = [verdict for verdict in verdicts.values() if verdict.direction != "equivalent"]
    ps = []
    for verdict in signed:
        if verdict.id == EVERY_LENGTH:
            ps.append(None)
            continue
        # From the shown interval back to its t test against the margin.
        half = (verdict.high - verdict.low) / 2
        t = (verdict.effect - verdict.margin) / (half / scipy_stats.t.ppf((1 + verdict.level) / 2, verdict.n - 1))
        ps.append(2 * scipy_stats.t.sf(abs(t), verdict.n - 1))
    known = [place for place, p in enumerate(ps) if p is not None]
    levels = sorted({round(verdict.level, 9) for verdict in signed}, reverse=True)
    stopped = next((k for k, verdict in enumerate(sorted(signed, key=lambda v: v.p)) if verdict.p >= 0.05), None)
    assert levels[0] == pytest.approx(1 - 0.05 / len(signed))
    assert all(level in [pytest.approx(1 - 0.05 / k) for k in range(1, len(signed) + 1)] for level in levels)
    assert stopped is None or len(levels) >= min(stopped + 1, len(signed))
    for place in known:
        assert (signed[place].p < 0.05) == (signed[place].verdict != "inconclusive")
        assert signed[place].p >= ps[place] * (1 - 1e-9)
    assert all(verdicts[control].level == pytest.approx(0.95) for control in CONTROLS)


def test_one_claim_alone_is_judged_at_95_percent():
    probe = BatchSize(lengths=(5,), lr_policies=("fixed",), curvature_seeds=0, target_accuracy=None, seeds=5)
    table = probe.simulate(plant(change=3.0), np.random.default_rng(0))
    verdict = judged(probe, table)[MAIN]
    rows = table[table["role"] == "run"]
    slopes = [
        np.polyfit(np.log2(r["batch_size"]), 100 * r["test_accuracy"], 1)[0] * 4 for _, r in rows.groupby("block")
    ]
    test = scipy_stats.ttest_1samp(slopes, probe.margin)
    assert (verdict.low, verdict.high) == pytest.approx(tuple(test.confidence_interval(0.95)), rel=1e-9)
    assert verdict.p == pytest.approx(test.pvalue, rel=1e-9) and verdict.level == pytest.approx(0.95)


def test_more_claims_widen_the_interval_of_the_first():
    alone = dataclasses.replace(PROBE, lr_policies=("fixed",), lengths=(5,), curvature_seeds=0, target_accuracy=None)
    table = quiet(PROBE, change=8.0)
    assert judged(alone, table)[MAIN].level < judged(PROBE, table)[MAIN].level


def test_the_order_of_rows_changes_nothing():
    table = WIDE.simulate(plant(change=2.0, drift=1.5), np.random.default_rng(6))
    for state in range(3):
        assert WIDE.judge(table.sample(frac=1, random_state=state)) == WIDE.judge(table)


def test_judging_is_pure():
    table = WIDE.simulate(plant(change=2.0), np.random.default_rng(0))
    before = table.copy(deep=True)
    first, second = WIDE.judge(table), WIDE.judge(table)
    assert first == second
    pd.testing.assert_frame_equal(table, before)


def test_everything_diverged_is_judged_shown_and_drawn_without_an_error():
    table = WIDE.simulate(plant(change=8.0, diverged=1.0), np.random.default_rng(3))
    assert table["diverged"].all()
    table["validation_accuracy"] = None
    verdicts = WIDE.judge(table)
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
    assert all(verdict.effect is None and verdict.n == 0 and verdict.p is None for verdict in verdicts)
    assert all("diverged" in verdict.reason for verdict in verdicts)
    effects = WIDE.effects(table)
    tuned = effects["quantity"].str.startswith("tuned learning rate")
    assert effects.loc[~tuned, "n"].eq(0).all() and effects.loc[~tuned, "mean"].isna().all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict_and_say_so(seeds):
    probe = dataclasses.replace(WIDE, seeds=seeds)
    table = quiet(probe, change=50.0, cnn=-50.0, growth=50.0, sharpness=50.0, examples=50.0)
    for verdict in probe.judge(table):
        if verdict.id == NOISE_SCALE:
            assert (verdict.verdict, verdict.n) == ("supported", 16)
            continue
        assert verdict.verdict == "inconclusive"
        assert f"{seeds} independent" in verdict.reason


def test_a_whole_table_from_json_is_judged_the_same():
    table = WIDE.simulate(plant(change=2.0, diverged=0.02), np.random.default_rng(1))
    again = pd.DataFrame(
        [[None if pd.isna(value) else value for value in row] for row in table.itertuples(index=False)],
        columns=table.columns,
    )
    assert WIDE.judge(again) == WIDE.judge(table)


def test_verdicts_come_in_the_order_of_the_claims():
    table = quiet(WIDE)
    assert [verdict.id for verdict in WIDE.judge(table)] == [claim.id for claim in WIDE.claims()]
    assert {A_A, LEAK, TUNING, EXAMPLES, SHARPNESS} <= set(judged(WIDE, table))
