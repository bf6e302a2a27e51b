"""Planted effects are found, estimates are those of plain loops over rows, and what forbids a verdict does.

What is compared at equal accuracy is held to loops in test_matched.py.
"""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.augmentation import claims as named
from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.evidence import gather
from mlptheory.probes.augmentation.tuning import choose
from tests.probes.augmentation.conftest import PROBE, UNTUNED, judged, plant, quiet

CONTROLS = {named.NULL, named.LEAK}
SIGNED = {claim.id for claim in PROBE.claims()} - CONTROLS
MANY = dataclasses.replace(PROBE, seeds=16, shuffles=8)
EFFECTS = ("lift", "over_cnn", "invariance", "filters", "spatial", "over_noise", "teach")
OF_LIFT = {named.LIFTS, named.OVER_CNN, named.OVER_CNN_ODDS}


@pytest.mark.parametrize(("times", "word"), [(3.0, "supported"), (0.0, "contradicted"), (-3.0, "contradicted")])
def test_planted_effects_of_every_kind_are_found(times, word):
    verdicts = judged(MANY, quiet(MANY, **dict.fromkeys(EFFECTS, times), rise=2.0, bend=1.0))
    worth = "supported" if times > 1 else "contradicted"
    assert verdicts[named.WORTH].verdict == worth
    assert {verdicts[claim].verdict for claim in SIGNED - {named.WORTH}} == {word}
    assert {verdicts[claim].verdict for claim in CONTROLS} == {"supported"}


def test_controls_that_are_off_are_called_out():
    verdicts = judged(MANY, quiet(MANY, control=3.0))
    assert {verdicts[claim].verdict for claim in CONTROLS} == {"contradicted"}


@pytest.mark.parametrize(
    ("effect", "claims"),
    [
        ("lift", {named.LIFTS}),
        ("invariance", {named.INVARIANCE}),
        ("filters", {named.FILTERS}),
        ("spatial", {named.SPATIAL}),
        ("over_noise", {named.OVER_NOISE}),
        ("teach", {named.TEACH}),
    ],
)
def test_an_effect_moves_its_own_claim_alone(effect, claims):
    verdicts = judged(PROBE, quiet(PROBE, **{effect: 4.0}))
    assert {name for name in SIGNED if verdicts[name].verdict == "supported"} == claims


def test_the_same_lift_in_points_is_more_in_log_odds_for_the_net_nearer_to_the_end():
    """Of 60 to 66 % beside 60 to 60 %: both scales agree; with the CNN's lift set in odds, both do again."""
    verdicts = judged(PROBE, quiet(PROBE, lift=3.0, over_cnn=3.0))
    assert {verdicts[name].verdict for name in OF_LIFT} == {"supported"}
    verdicts = judged(PROBE, quiet(PROBE, lift=3.0, in_odds=1.0, over_cnn_odds=0.0))
    assert verdicts[named.OVER_CNN_ODDS].effect == pytest.approx(0.0, abs=0.01)


def test_one_size_at_which_augmentation_is_worth_less_contradicts():
    """Steps gain 12 and 18 points, augmentation 14: enough for one of them."""
    verdict = judged(PROBE, quiet(PROBE, lift=7.0, rise=6.0, bend=1.5))[named.WORTH]
    assert verdict.verdict == "contradicted" and verdict.effect == pytest.approx(-4.0, abs=0.1)
    assert "+2.0" in verdict.reason and "at 20" in verdict.reason and "at 40" in verdict.reason


def test_nets_that_share_no_accuracy_are_not_compared():
    verdict = judged(PROBE, quiet(PROBE, lift=30.0, invariance=5.0))[named.INVARIANCE]
    assert verdict.verdict == "inconclusive" and "No accuracy is reached by both" in verdict.reason


def test_more_invariance_by_more_accuracy_alone_is_none_at_equal_accuracy():
    """The log error falls with the accuracy along one line for both: the largest nets differ, matched ones do not."""
    table = quiet(PROBE, lift=6.0)
    at = {arm: table[(table["role"] == "run") & (table["size"] == 80) & (table["arm"] == arm)] for arm in PROBE.arms}
    ratio = np.log(at["flip+crop+mixup"]["flip_error_logits"].mean() / at["none"]["flip_error_logits"].mean())
    assert ratio < -PROBE.invariance_margin
    verdict = judged(PROBE, table)[named.INVARIANCE]
    assert verdict.verdict == "contradicted" and verdict.effect == pytest.approx(0.0, abs=0.01)


def test_what_does_not_beat_the_better_of_two_teaches_nothing():
    for apart in (0.0, 20.0):
        verdict = judged(PROBE, quiet(PROBE, teach=-2.0, apart=apart))[named.TEACH]
        assert verdict.verdict == "contradicted" and verdict.effect == pytest.approx(-4.0, abs=0.1)


def by_hand(probe, table, claim):
    """Return every per-block estimate of a claim's components, by loops over rows."""
    rows = {}
    for row in table.to_dict("records"):
        rows.setdefault((row["role"], row["learner"], row["arm"], row["size"], row["block"]), []).append(row)
    full, blocks = probe.full, range(5)

    def get(arm, block, *, outcome="test_accuracy", size=80, learner="mlp", role="run"):
        found = rows[role, learner, arm, size, block]
        return sum(row[outcome] for row in found) / len(found)

    def points(arm, block, **where):
        return 100 * get(arm, block, **where)

    def odds(arm, block, learner):
        share = min(max(get(arm, block, learner=learner), 0.5 / 1000), 1 - 0.5 / 1000)
        return math.log(share / (1 - share))

    def taught(block, over):
        where = {"role": "shuffled"}
        trained = points(probe.spatial, block, outcome="neighbor_accuracy", **where)
        return trained - points(probe.spatial, block, outcome=f"neighbor_accuracy_{over}", **where)

    lifts = {
        learner: [points(full, b, learner=learner) - points("none", b, learner=learner) for b in blocks]
        for learner in ("mlp", "cnn")
    }
    in_odds = {
        learner: [odds(full, b, learner) - odds("none", b, learner) for b in blocks] for learner in ("mlp", "cnn")
    }
    found = {
        named.LIFTS: [lifts["mlp"]],
        named.OVER_CNN: [[a - b for a, b in zip(lifts["mlp"], lifts["cnn"], strict=True)]],
        named.OVER_CNN_ODDS: [[a - b for a, b in zip(in_odds["mlp"], in_odds["cnn"], strict=True)]],
        named.WORTH: [
            [points(full, b, size=n) - points("none", b, size=m) for b in blocks] for n, m in ((20, 40), (40, 80))
        ],
        named.FILTERS: [
            [
                100 * (get(full, b, outcome="change_local_share") - get("none", b, outcome="change_local_share"))
                for b in blocks
            ]
        ],
        named.SPATIAL: [[points("flip+shift", b) - points("flip+shift conjugated", b) for b in blocks]],
        named.OVER_NOISE: [[points("flip+crop", b) - points("flip+crop as noise", b) for b in blocks]],
        named.TEACH: [[taught(b, over) for b in blocks] for over in ("initial", "pixels")],
        named.NULL: [[points(full, b, role="exact-null") - points(full, b) for b in blocks]],
        named.LEAK: [
            [
                points("none", b, role="shuffled") - points("none", b, role="shuffled", outcome="chance_accuracy")
                for b in blocks
            ]
        ],
    }
    return found[claim]


@pytest.mark.parametrize("claim", sorted((SIGNED | CONTROLS) - {named.INVARIANCE}))
def test_estimates_are_those_of_loops_over_rows(claim):
    table = PROBE.simulate(plant(lift=2.0, spatial=1.0), np.random.default_rng(3))
    found = gather(PROBE, Cells(PROBE, table), choose(table), claim)
    expected = by_hand(PROBE, table, claim)
    assert found.n == 5 and len(found.estimate.components) == len(expected)
    for part, values in zip(found.estimate.components, expected, strict=True):
        interval = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert part.estimate == pytest.approx(np.mean(values))
        assert part.interval(0.95).low == pytest.approx(interval.low)
        assert part.interval(0.95).high == pytest.approx(interval.high)


def test_accuracies_of_one_and_zero_have_log_odds_half_an_example_away():
    table = quiet(UNTUNED)
    kind = (table["role"] == "run") & (table["size"] == 40) & (table["learner"] == "cnn")
    table.loc[kind & (table["arm"] == "flip"), "test_accuracy"] = 1.0
    table.loc[kind & (table["arm"] == "none"), "test_accuracy"] = 0.0
    cells = Cells(UNTUNED, table)
    end = math.log((1 - 0.5 / 1000) / (0.5 / 1000))
    assert cells.log_odds("flip", learner="cnn") == pytest.approx([end] * 5)
    assert cells.log_odds("none", learner="cnn") == pytest.approx([-end] * 5)


BEHIND = {
    ("run", "mlp", "none", 80): SIGNED - {named.SPATIAL, named.OVER_NOISE, named.TEACH},
    ("run", "mlp", "none", 20): {named.WORTH, named.INVARIANCE},
    ("run", "mlp", "flip+crop+mixup", 80): (SIGNED | {named.NULL}) - {named.SPATIAL, named.OVER_NOISE, named.TEACH},
    ("run", "cnn", "none", 80): {named.OVER_CNN, named.OVER_CNN_ODDS},
    ("run", "cnn", "none", 20): set(),
    ("run", "mlp", "flip+shift conjugated", 80): {named.SPATIAL},
    ("run", "mlp", "flip+crop as noise", 80): {named.OVER_NOISE},
    ("run", "mlp", "flip+crop", 80): {named.OVER_NOISE},
    ("shuffled", "mlp", "flip+crop", 80): {named.TEACH},
    ("shuffled", "mlp", "none", 80): {named.LEAK},
    ("exact-null", "mlp", "flip+crop+mixup", 80): {named.NULL},
}


@pytest.mark.parametrize("kind", BEHIND, ids=str)
def test_a_run_that_diverged_forbids_the_verdicts_that_rest_on_it(kind):
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 5.0))
    place = np.flatnonzero((table[["role", "learner", "arm", "size"]] == list(kind)).all(axis=1))[2]
    table.loc[place, "diverged"] = True
    table.loc[place, ["test_accuracy", "flip_error_logits", "change_local_share", "neighbor_accuracy"]] = np.nan
    verdicts = judged(PROBE, table)
    stopped = {name for name, verdict in verdicts.items() if "diverged, so means" in verdict.reason}
    assert stopped == BEHIND[kind]
    assert all(verdicts[name].verdict == "inconclusive" for name in stopped)


@pytest.mark.parametrize(
    ("cell", "stopped"),
    [
        (("mlp", "none"), SIGNED - {named.SPATIAL, named.OVER_NOISE, named.TEACH}),
        (("cnn", "flip+crop+mixup"), {named.OVER_CNN, named.OVER_CNN_ODDS}),
        (("mlp", "flip+shift"), {named.SPATIAL}),
        (("mlp", "flip+crop as noise"), {named.OVER_NOISE}),
        (("mlp", "mixup"), set()),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else None,
)
def test_a_rate_on_the_edge_of_its_grid_forbids_the_verdicts_that_rest_on_it(cell, stopped):
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 5.0))
    tuning = (table["role"] == "tuning") & (table["learner"] == cell[0]) & (table["arm"] == cell[1])
    table.loc[tuning, "validation_accuracy"] = table.loc[tuning, "lr"]
    found = {name for name, verdict in judged(PROBE, table).items() if "edge of its grid" in verdict.reason}
    assert found == stopped


def test_a_tuning_run_that_diverged_forbids_nothing():
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 5.0))
    largest = (table["role"] == "tuning") & (table["lr"] == table.loc[table["role"] == "tuning", "lr"].max())
    table.loc[largest, "diverged"] = True
    assert not any("diverged" in verdict.reason for verdict in PROBE.judge(table))


def test_an_error_of_zero_has_no_logarithm_and_is_told():
    table = quiet(PROBE, lift=4.0)
    exact = (
        (table["role"] == "run") & (table["arm"] == PROBE.full) & (table["block"] == 2) & (table["learner"] == "mlp")
    )
    table.loc[exact, "flip_error_logits"] = 0.0
    verdict = judged(PROBE, table)[named.INVARIANCE]
    assert verdict.verdict == "inconclusive" and "no logarithm" in verdict.reason and verdict.n == 4


def test_an_outcome_that_is_missing_in_a_run_that_did_not_diverge_is_told():
    """A net of which no unit of the first layer moved has no W - W0."""
    table = quiet(PROBE, filters=4.0)
    kind = (table["role"] == "run") & (table["learner"] == "mlp") & (table["size"] == 80) & (table["block"] == 2)
    table.loc[kind & (table["arm"] == "none"), "change_local_share"] = np.nan
    verdict = judged(PROBE, table)[named.FILTERS]
    assert verdict.verdict == "inconclusive" and "1 of 5 blocks lack an outcome" in verdict.reason


def test_an_arm_that_loses_is_not_called_a_lift():
    table = quiet(PROBE, spatial=4.0)
    loses = (table["role"] == "run") & table["arm"].isin(["flip+shift", "flip+shift conjugated"])
    table.loc[loses, "test_accuracy"] -= 0.05
    verdict = judged(PROBE, table)[named.SPATIAL]
    assert verdict.verdict == "supported" and "does not lift" in verdict.reason


def test_the_papers_points_are_told_for_what_they_are():
    assert "100 epochs without with 1000 and 5000" in judged(PROBE, quiet(PROBE))[named.LIFTS].reason


def test_a_table_of_which_nothing_is_left_is_judged():
    verdicts = PROBE.judge(PROBE.simulate(plant(diverged=1.0), np.random.default_rng(0)))
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
