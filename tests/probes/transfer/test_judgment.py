"""Planted effects are found, estimates are those of scipy on a plain table, and what forbids a verdict does."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.transfer import claims as named
from tests.probes.transfer.conftest import MANY, PROBE, judged, plant, quiet

CONTROLS = {named.A_A, named.LEAK}
SIGNED = {claim.id for claim in PROBE.claims()} - CONTROLS
EFFECTS = (
    "pretraining",
    "features",
    "probe_augmentation",
    "finetuning_augmentation",
    "over_probe",
    "tta",
    "change",
    "longer",
)


@pytest.mark.parametrize(("times", "word"), [(3.0, "supported"), (0.0, "contradicted"), (-3.0, "contradicted")])
def test_planted_effects_of_every_kind_are_found(times, word):
    verdicts = judged(MANY, quiet(MANY, **dict.fromkeys(EFFECTS, times), control=0.0))
    assert {verdicts[claim].verdict for claim in SIGNED} == {word}
    assert {verdicts[claim].verdict for claim in CONTROLS} == {"supported"}


def test_controls_that_are_off_are_called_out():
    verdicts = judged(MANY, quiet(MANY, control=3.0))
    assert {verdicts[claim].verdict for claim in CONTROLS} == {"contradicted"}


@pytest.mark.parametrize(
    ("effect", "claim"),
    [
        ("pretraining", named.PRETRAINING),
        ("features", named.FEATURES),
        ("probe_augmentation", named.AUGMENTED_PROBE),
        ("finetuning_augmentation", named.AUGMENTED_FINETUNING),
        ("over_probe", named.OVER_PROBE),
        ("tta", named.TTA),
        ("longer", named.LONGER),
    ],
)
def test_an_effect_moves_its_own_claim_alone(effect, claim):
    verdicts = judged(PROBE, quiet(PROBE, **{effect: 4.0}))
    assert {name for name in SIGNED if verdicts[name].verdict == "supported"} == {claim}


def test_a_baseline_that_is_not_beaten_contradicts_however_bad_the_other_is():
    for effect, claim in (("pretraining", named.PRETRAINING), ("features", named.FEATURES)):
        for apart in (0.0, 50.0):
            verdict = judged(PROBE, quiet(PROBE, **{effect: -2.0}, apart=apart))[claim]
            assert verdict.verdict == "contradicted" and verdict.effect == pytest.approx(-4.0, abs=0.3)


def test_one_length_that_falls_short_contradicts_every_length_but_not_the_mean():
    verdicts = judged(PROBE, quiet(PROBE, change=5.0, growth=10.0))
    assert verdicts[named.LARGER].verdict == "supported"
    assert verdicts[named.EVERY_LENGTH].verdict == "contradicted"
    assert "at 20" in verdicts[named.EVERY_LENGTH].reason


def test_a_hump_stands_in_the_way_of_support_alone():
    risen = judged(PROBE, quiet(PROBE, change=4.0, hump=8.0))
    assert risen[named.LARGER].verdict == risen[named.EVERY_LENGTH].verdict == "inconclusive"
    assert "Not monotone: over arms and lengths, batch size 64" in risen[named.LARGER].reason
    flat = judged(PROBE, quiet(PROBE, hump=8.0))
    assert flat[named.LARGER].verdict == "contradicted"


def grown(table, role, stage):
    return table[(table["role"] == role) & (table["stage"] == stage)]


def t_interval(values):
    found = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return float(np.mean(values)), found.low, found.high


def by_hand(table, claim):
    """Return every per-block estimate of a claim's components, by loops over rows."""
    share = {}
    for row in table.to_dict("records"):
        key = (row["role"], row["stage"], row["arm"], row["length"], row["batch_size"], row["block"])
        share.setdefault(key, []).append(row)
    blocks, sizes, lengths = range(5), (16, 64, 256), (5, 20)
    cells = list(itertools.product(("augmented", "plain"), lengths, sizes))

    def accuracy(stage, arm, length, size, block, role="run", outcome="test_accuracy"):
        rows = share[role, stage, arm, length, size, block]
        return 100 * sum(row[outcome] for row in rows) / len(rows)

    def mean(stage, block, outcome="test_accuracy", arms=("augmented", "plain"), among=lengths):
        chosen = [cell for cell in cells if cell[0] in arms and cell[1] in among]
        return sum(accuracy(stage, *cell, block, outcome=outcome) for cell in chosen) / len(chosen)

    def slope(block, among):
        means = [
            np.mean(
                [accuracy("probing", arm, length, size, block) for arm in ("augmented", "plain") for length in among]
            )
            for size in sizes
        ]
        return 4 * np.polyfit(np.log2(sizes), means, 1)[0]

    one = [accuracy("probing", "plain", 20, 64, block) for block in blocks]
    found = {
        named.PRETRAINING: [
            [mean("finetuning", b) - accuracy(stage, "", 0, 0, b) for b in blocks]
            for stage in ("scratch", "scratch-as-finetuning")
        ],
        named.FEATURES: [
            [one[b] - accuracy("probing", "", 0, 0, b, role="untrained") for b in blocks],
            [one[b] - accuracy("probing", "plain", 20, 64, b, role="shuffled-source") for b in blocks],
        ],
        named.AUGMENTED_PROBE: [
            [mean("probing", b, arms=("augmented",)) - mean("probing", b, arms=("plain",)) for b in blocks]
        ],
        named.AUGMENTED_FINETUNING: [
            [mean("finetuning", b, arms=("augmented",)) - mean("finetuning", b, arms=("plain",)) for b in blocks]
        ],
        named.OVER_PROBE: [[mean("finetuning", b) - mean("probing", b) for b in blocks]],
        named.TTA: [[mean("finetuning", b, "tta_accuracy") - mean("finetuning", b) for b in blocks]],
        named.LARGER: [[slope(b, lengths) for b in blocks]],
        named.EVERY_LENGTH: [[slope(b, (length,)) for b in blocks] for length in lengths],
        named.LONGER: [[mean("probing", b, among=(20,)) - mean("probing", b, among=(5,)) for b in blocks]],
        named.A_A: [
            [
                accuracy("probing", "augmented", 5, 64, b, role="a-a")
                - accuracy("probing", "plain", 5, 64, b, role="a-a")
                for b in blocks
            ]
        ],
        named.LEAK: [
            [
                accuracy("finetuning", "plain", 20, 64, b, role="shuffled-target")
                - accuracy("finetuning", "plain", 20, 64, b, role="shuffled-target", outcome="chance_accuracy")
                for b in blocks
            ]
        ],
    }
    return found[claim]


@pytest.mark.parametrize("claim", [claim.id for claim in PROBE.claims()])
def test_estimates_are_those_of_loops_and_scipy(claim):
    table = PROBE.simulate(plant(change=1.0, growth=2.0, tta=1.0), np.random.default_rng(7))
    verdict = judged(PROBE, table)[claim]
    parts = by_hand(table, claim)
    assert verdict.n == 5 and verdict.effect == pytest.approx(min(np.mean(part) for part in parts), rel=1e-9)
    lows = [scipy_stats.ttest_1samp(part, 0).confidence_interval(verdict.level).low for part in parts]
    split = 1 - (1 - verdict.level) / len(parts)
    highs = [scipy_stats.ttest_1samp(part, 0).confidence_interval(split).high for part in parts]
    assert (verdict.low, verdict.high) == pytest.approx((min(lows), min(highs)), rel=1e-9)


@pytest.mark.parametrize(
    ("role", "stage", "touched"),
    [
        ("run", "pretraining", SIGNED | {named.LEAK}),
        ("run", "finetuning", {named.PRETRAINING, named.AUGMENTED_FINETUNING, named.OVER_PROBE, named.TTA}),
        (
            "run",
            "probing",
            SIGNED - {named.PRETRAINING, named.AUGMENTED_FINETUNING, named.TTA},
        ),
        ("run", "scratch", {named.PRETRAINING}),
        ("run", "scratch-as-finetuning", {named.PRETRAINING}),
        ("untrained", "probing", {named.FEATURES}),
        ("shuffled-source", "pretraining", {named.FEATURES}),
        ("shuffled-source", "probing", {named.FEATURES}),
        ("a-a", "probing", {named.A_A}),
        ("a-a", "pretraining", {named.A_A}),
        ("shuffled-target", "finetuning", {named.LEAK}),
    ],
)
def test_a_run_that_diverged_leaves_every_claim_that_uses_its_like_open(role, stage, touched):
    table = quiet(PROBE, **dict.fromkeys(EFFECTS, 4.0))
    index = grown(table, role, stage).index[0]
    table.loc[index, ["test_accuracy", "tta_accuracy"]] = np.nan
    table.loc[index, "diverged"] = True
    verdicts = judged(PROBE, table)
    assert {name for name, verdict in verdicts.items() if "diverged" in verdict.reason} == touched
    assert {verdicts[name].verdict for name in touched} == {"inconclusive"}


def test_everything_diverged_is_judged_shown_and_drawn_without_an_error():
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
    table = PROBE.simulate(plant(change=2.0, diverged=0.02), np.random.default_rng(6))
    before = table.copy(deep=True)
    first = PROBE.judge(table)
    pd.testing.assert_frame_equal(table, before)
    for verdict, other in zip(first, PROBE.judge(table.sample(frac=1, random_state=0)), strict=True):
        assert (verdict.id, verdict.verdict, verdict.n) == (other.id, other.verdict, other.n)
        assert (verdict.effect is None) == (other.effect is None)
        assert verdict.effect == pytest.approx(other.effect, rel=1e-12)


def test_a_whole_table_from_json_is_judged_the_same():
    table = PROBE.simulate(plant(change=2.0), np.random.default_rng(1))
    again = pd.DataFrame(
        [[None if pd.isna(value) else value for value in row] for row in table.itertuples(index=False)],
        columns=table.columns,
    )
    assert PROBE.judge(again) == PROBE.judge(table)


def test_verdicts_come_in_the_order_of_the_claims():
    assert [verdict.id for verdict in PROBE.judge(quiet(PROBE))] == [claim.id for claim in PROBE.claims()]
