"""Planted effects are found, estimates are those of scipy on a plain table, and what forbids a verdict does."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.permutation import claims as named
from tests.probes.permutation.conftest import MANY, PROBE, judged, plant, quiet

EQUIVALENCES = {named.EQUIVALENT, named.AUGMENTED_EQUIVALENT, named.LEAK}
ALL = {claim.id for claim in PROBE.claims()}
EXACT = {named.TRAJECTORY, named.WRONG}


def test_what_is_planted_is_found():
    effects = {"falls": 3.0, "order": 3.0, "trajectory": 3.0, "wrong": 3.0}
    assert {verdict.verdict for verdict in judged(MANY, quiet(MANY, **effects)).values()} == {"supported"}
    short = {"falls": 0.0, "order": 0.0, "trajectory": -3.0, "wrong": -2.0, "difference": 3.0, "control": 3.0}
    assert {verdict.verdict for verdict in judged(MANY, quiet(MANY, **short)).values()} == {"contradicted"}


@pytest.mark.parametrize("difference", [3.0, -3.0])
def test_better_on_permuted_images_is_as_far_from_equivalent_as_worse(difference):
    verdicts = judged(PROBE, quiet(PROBE, difference=difference))
    for claim in (named.EQUIVALENT, named.AUGMENTED_EQUIVALENT):
        assert verdicts[claim].verdict == "contradicted"
        assert verdicts[claim].effect == pytest.approx(2.0 * difference, abs=0.3)


@pytest.mark.parametrize(("effect", "claim"), [("falls", named.FALLS), ("order", named.ORDER)])
def test_an_effect_moves_its_own_claim_alone(effect, claim):
    verdicts = judged(PROBE, quiet(PROBE, **{effect: 4.0}, trajectory=-5.0, wrong=-2.0))
    assert {name for name in ALL - EQUIVALENCES if verdicts[name].verdict == "supported"} == {claim}


def test_one_cell_that_parts_contradicts_however_well_the_others_keep_together():
    for apart in (0.0, 5.0):
        verdict = judged(PROBE, quiet(PROBE, trajectory=-2.0, apart=apart))[named.TRAJECTORY]
        assert verdict.verdict == "contradicted" and verdict.effect == pytest.approx(7.0, abs=0.2)


def test_runs_that_do_not_deviate_at_all_are_sixteen_digits_alike():
    """Of blocks that agree to the last digit the spread is not zero but what cannot be seen: they have a verdict."""
    table = quiet(PROBE)
    exact = table["role"] == "exact"
    table.loc[exact, ["permuted_weight_deviation", "permuted_logit_deviation"]] = 0.0
    table.loc[exact, "wrong_weight_deviation"] = 0.1
    verdicts = judged(PROBE, table)
    assert verdicts[named.TRAJECTORY].verdict == verdicts[named.WRONG].verdict == "supported"
    assert verdicts[named.TRAJECTORY].effect == 16.0 and verdicts[named.WRONG].effect == pytest.approx(15.0)
    width = scipy_stats.t.ppf(0.5 + verdicts[named.TRAJECTORY].level / 2, 3) * math.log10(2) / math.sqrt(12 * 4)
    assert 16.0 - verdicts[named.TRAJECTORY].low == pytest.approx(width)


def test_the_larger_of_weights_and_logits_counts():
    for column in ("permuted_weight_deviation", "permuted_logit_deviation"):
        table = quiet(PROBE, trajectory=5.0, wrong=5.0)
        one = (table["role"] == "exact") & (table["model"] == "B-1/Wi-32") & (table["optimizer"] == "lion")
        table.loc[one, column] = 1e-6
        verdicts = judged(PROBE, table)
        assert verdicts[named.TRAJECTORY].effect == pytest.approx(6.0)
        assert verdicts[named.TRAJECTORY].verdict == "contradicted"
        assert "B-1/Wi-32 lion 6.0" in verdicts[named.TRAJECTORY].reason


def test_sign_flips_are_told_of_both_kinds_of_runs():
    table = quiet(PROBE)
    table["sign_updates"] = np.where((table["optimizer"] == "lion") & (table["images"] == "both"), 1000.0, np.nan)
    table["permuted_sign_flips"] = np.where(table["role"] == "one-step", 1.0, 0.0)
    table["wrong_sign_flips"] = np.where(table["role"] == "exact", 450.0, np.nan)
    verdicts = judged(PROBE, table)
    told = verdicts[named.TRAJECTORY].reason
    assert "Under Lion 0 of 8,000 updates have another sign in float64, 8 of 8,000 updates in float32" in told
    assert "Lion takes 3,600 of 8,000 updates of the other sign" in verdicts[named.WRONG].reason


def by_hand(table, claim):
    """Return every per-block estimate of a claim's components, by loops over rows."""
    rows = table.to_dict("records")
    blocks, first = PROBE.seed_list, PROBE.exact_seed_list

    def accuracy(arm, images, block, role="run", outcome="test_accuracy"):
        found = [
            100 * row[outcome]
            for row in rows
            if (row["role"], row["arm"], row["images"], row["block"]) == (role, arm, images, block)
        ]
        return sum(found) / len(found)

    def difference(arm, one, other):
        return [[accuracy(arm, one, block) - accuracy(arm, other, block) for block in blocks]]

    def exact(outcome, model, optimizer, block):
        (found,) = [
            row[outcome]
            for row in rows
            if (row["role"], row["model"], row["optimizer"], row["block"]) == ("exact", model, optimizer, block)
        ]
        return found

    def digits(model, optimizer, block):
        found = [exact(f"permuted_{each}_deviation", model, optimizer, block) for each in ("weight", "logit")]
        return -math.log10(max(*found, 1e-16))

    cells = [(model, optimizer) for model in PROBE.exact_models for optimizer in ("sgd", "adamw", "lion")]
    if claim == named.TRAJECTORY:
        return [[digits(*cell, block) for block in first] for cell in cells]
    if claim == named.WRONG:
        return [
            [math.log10(exact("wrong_weight_deviation", *cell, block)) + digits(*cell, block) for block in first]
            for cell in cells
        ]
    if claim == named.LEAK:
        chance = [accuracy("mlp", "plain", block, "shuffled", "chance_accuracy") for block in blocks]
        return [[accuracy("mlp", "plain", block, "shuffled") - chance[i] for i, block in enumerate(blocks)]]
    return {
        named.EQUIVALENT: difference("mlp", "plain", "permuted"),
        named.FALLS: difference("baseline", "plain", "permuted"),
        named.AUGMENTED_EQUIVALENT: difference("mlp", "augmented", "augment-then-permute"),
        named.ORDER: difference("mlp", "augment-then-permute", "permute-then-augment"),
    }[claim]


@pytest.mark.parametrize("claim", sorted(ALL))
def test_estimates_are_those_of_loops_and_scipy(claim):
    table = PROBE.simulate(plant(falls=1.0, order=2.0, apart=0.2), np.random.default_rng(7))
    verdict, parts = judged(PROBE, table)[claim], by_hand(table, claim)
    assert verdict.n == len(parts[0]) == (4 if claim in EXACT else 6)
    assert verdict.effect == pytest.approx(min(np.mean(part) for part in parts), rel=1e-9)
    least = math.log10(2) / math.sqrt(12) if claim in EXACT else 0.0
    errors = [max(np.std(part, ddof=1), least) / math.sqrt(len(part)) for part in parts]

    def end(side, level):
        t = scipy_stats.t.ppf(0.5 + level / 2, len(parts[0]) - 1)
        return min(np.mean(part) + side * t * error for part, error in zip(parts, errors, strict=True))

    split = 1 - (1 - verdict.level) / len(parts)
    assert (verdict.low, verdict.high) == pytest.approx((end(-1, verdict.level), end(1, split)), rel=1e-9)


@pytest.mark.parametrize(
    ("role", "arm", "images", "touched"),
    [
        ("run", "mlp", "plain", {named.EQUIVALENT}),
        ("run", "mlp", "permuted", {named.EQUIVALENT}),
        ("run", "mlp", "augmented", {named.AUGMENTED_EQUIVALENT}),
        ("run", "mlp", "augment-then-permute", {named.AUGMENTED_EQUIVALENT, named.ORDER}),
        ("run", "mlp", "permute-then-augment", {named.ORDER}),
        ("run", "baseline", "plain", {named.FALLS}),
        ("run", "baseline", "permuted", {named.FALLS}),
        ("run", "baseline", "augmented", set()),
        ("exact", "mlp", "both", EXACT),
        ("one-step", "mlp", "both", set()),
        ("shuffled", "mlp", "plain", {named.LEAK}),
    ],
)
def test_a_run_that_diverged_leaves_every_claim_that_uses_its_like_open(role, arm, images, touched):
    table = quiet(PROBE, falls=4.0, order=4.0, trajectory=4.0, wrong=4.0)
    like = (table["role"] == role) & (table["arm"] == arm) & (table["images"] == images)
    index = table[like].index[0]
    outcomes = [name for name in table if name.endswith(("accuracy", "deviation"))]
    table.loc[index, outcomes] = np.nan
    table.loc[index, "diverged"] = True
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if "diverged" in verdict.reason} == touched
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == touched


@pytest.mark.parametrize(
    ("lost", "touched"),
    [
        ("permuted_weight_deviation", EXACT),
        ("permuted_logit_deviation", EXACT),
        ("wrong_weight_deviation", {named.WRONG}),
    ],
)
def test_a_deviation_that_was_not_finite_is_no_block_less(lost, touched):
    """The record has no number where one of the lanes blew up beside a reference that did not."""
    table = quiet(PROBE, falls=4.0, order=4.0, trajectory=4.0, wrong=4.0)
    table.loc[table[table["role"] == "exact"].index[0], lost] = np.nan
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == touched
    for name in touched:
        assert "1 of 24 runs have a deviation that is not finite" in verdicts[name].reason


def test_where_images_are_resized_the_order_is_not_the_augmentations_alone():
    probe = dataclasses.replace(PROBE, image_size=16)
    verdicts = judged(probe, quiet(probe, falls=4.0, order=4.0, trajectory=4.0, wrong=4.0))
    assert {name for name, verdict in verdicts.items() if verdict.verdict == "inconclusive"} == {named.ORDER}
    assert "Images are resized to 16 pixels" in verdicts[named.ORDER].reason
    told = probe.power(None)
    assert [name for name, text in told.items() if "resized" in text] == [named.ORDER]
    assert told[named.ORDER].startswith("inconclusive by design")


def test_everything_diverged_is_judged_and_shown_without_an_error():
    table = PROBE.simulate(plant(diverged=1.0), np.random.default_rng(3))
    verdicts = PROBE.judge(table)
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
    assert all(verdict.effect is None and verdict.n == 0 for verdict in verdicts)
    effects = PROBE.effects(table)
    assert effects["n"].eq(0).all() and effects["mean"].isna().all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict_and_say_so(seeds):
    probe = dataclasses.replace(PROBE, seeds=seeds, exact_seeds=seeds)
    for verdict in probe.judge(quiet(probe, falls=50.0, order=50.0)):
        assert verdict.verdict == "inconclusive" and f"{seeds} independent" in verdict.reason


def test_judging_is_pure_and_the_order_of_rows_changes_nothing():
    table = PROBE.simulate(plant(falls=2.0, diverged=0.02), np.random.default_rng(6))
    before = table.copy(deep=True)
    first = PROBE.judge(table)
    pd.testing.assert_frame_equal(table, before)
    for verdict, other in zip(first, PROBE.judge(table.sample(frac=1, random_state=0)), strict=True):
        assert (verdict.id, verdict.verdict, verdict.n) == (other.id, other.verdict, other.n)
        assert (verdict.effect is None) == (other.effect is None)
        assert verdict.effect == pytest.approx(other.effect, rel=1e-12)


def test_a_whole_table_from_json_is_judged_the_same():
    table = PROBE.simulate(plant(falls=2.0), np.random.default_rng(1))
    again = pd.DataFrame(
        [[None if pd.isna(value) else value for value in row] for row in table.itertuples(index=False)],
        columns=table.columns,
    )
    assert PROBE.judge(again) == PROBE.judge(table)


def test_verdicts_come_in_the_order_of_the_claims():
    assert [verdict.id for verdict in PROBE.judge(quiet(PROBE))] == [claim.id for claim in PROBE.claims()]
