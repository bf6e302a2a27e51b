import dataclasses
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize import CONTROL, EVERY_LENGTH, MAIN

PROBE = BatchSize(batch_sizes=(64, 16, 256), epochs=(5, 20), seeds=5)


def by_id(verdicts):
    return {verdict.id: verdict for verdict in verdicts}


def judged(probe, table):
    return by_id(probe.judge(table))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "cifer10"}, ["'cifer10'", "'cifar10'", "digits"]),
        ({"model": "B-3-Wi-256"}, ["'B-3-Wi-256'", "B-{depth}/Wi-{width}"]),
        ({"model": "Q-3/Wi-256"}, ["'Q-3/Wi-256'"]),
        ({"batch_sizes": (0, 16)}, ["batch_sizes = 0", "at least 1"]),
        ({"batch_sizes": (-1, 16)}, ["batch_sizes = -1", "at least 1"]),
        ({"batch_sizes": (16,)}, ["batch_sizes = (16,)", "at least 2"]),
        ({"batch_sizes": (16, 16)}, ["batch_sizes = (16, 16)", "different"]),
        ({"epochs": ()}, ["epochs = ()", "at least 1"]),
        ({"epochs": (0,)}, ["epochs = 0"]),
        ({"seeds": ()}, ["seeds = ()", "at least one"]),
        ({"seeds": 0}, ["seeds = 0", "at least 1"]),
        ({"seeds": (1, 1)}, ["seeds = (1, 1)", "different"]),
        ({"seeds": (-1, 2)}, ["seeds = -1"]),
        ({"seeds": (1_000_000, 2)}, ["seeds = 1000000", "control"]),
        ({"lr": -1e-3}, ["lr = -0.001", "greater than 0"]),
        ({"lr": math.nan}, ["lr = nan"]),
        ({"optimizer": "adam"}, ["'adam'", "'adamw'"]),
        ({"optimizer": "sgd"}, ["lr = None", "sgd"]),
        ({"margin": -1.0}, ["margin = -1.0"]),
        ({"margin": 0.0}, ["margin = 0.0", "greater than 0"]),
        ({"precision": "float16"}, ["'float16'", "bfloat16"]),
        ({"weight_decay": -1.0}, ["weight_decay"]),
        ({"label_smoothing": 2.0}, ["label_smoothing"]),
    ],
)
def test_bad_settings_raise_at_the_door(settings, words):
    with pytest.raises(InputError) as caught:
        BatchSize(**settings)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_trials_are_the_full_grid_and_the_control():
    trials = PROBE.trials()
    rows = pd.DataFrame([dict(trial.labels) for trial in trials])
    arms, control = rows[rows["role"] == "arm"], rows[rows["role"] == "control"]
    assert len(arms) == 3 * 2 * 5 and len(control) == 3 * 5
    assert (arms["batch_size"] == arms["trained_batch_size"]).all()
    assert (arms["block"] == arms["seed"]).all()
    assert set(control["trained_batch_size"]) == {64} and set(control["epochs"]) == {5}
    assert control["seed"].is_unique and not set(control["seed"]) & set(arms["seed"])
    assert sorted(control["batch_size"].unique()) == [16, 64, 256]


def test_arms_differ_in_batch_size_length_and_seed_alone():
    plain = [trial.recipe.to_plain() for trial in PROBE.trials() if dict(trial.labels)["role"] == "arm"]
    for recipe in plain:
        recipe["budget"].pop("batch_size"), recipe["budget"].pop("amount"), recipe.pop("seed")
    assert all(recipe == plain[0] for recipe in plain)


def test_the_learning_rate_is_the_papers_carried_to_the_width_and_no_batch_size_has_its_own():
    assert BatchSize(model="B-6/Wi-1024").lr_used == 5e-5
    assert BatchSize(model="B-3/Wi-256").lr_used == pytest.approx(2e-4)
    assert BatchSize(lr=3e-3).lr_used == 3e-3
    assert {trial.recipe.optimizer.lr for trial in BatchSize(lr=3e-3).trials()} == {3e-3}


def test_the_main_estimate_is_the_mean_over_lengths_of_a_line_fitted_in_each_block():
    table = PROBE.simulate(3.0, np.random.default_rng(0))
    shuffled = table.sample(frac=1, random_state=1)
    changes = []
    for block in range(5):
        slopes = []
        for epochs in (5, 20):
            rows = table[(table["role"] == "arm") & (table["block"] == block) & (table["epochs"] == epochs)]
            slopes.append(np.polyfit(np.log2(rows["batch_size"]), 100 * rows["test_accuracy"], 1)[0])
        changes.append(np.mean(slopes) * (8 - 4))
    expected = scipy_stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    for frame in (table, shuffled):
        verdict = judged(PROBE, frame)[MAIN]
        assert verdict.effect == pytest.approx(np.mean(changes), rel=1e-12)
        assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
        assert verdict.p == pytest.approx(scipy_stats.ttest_1samp(changes, 0).pvalue, rel=1e-9)
        assert verdict.n == 5


@pytest.mark.parametrize(("effect", "expected"), [(8.0, "supported"), (-8.0, "contradicted"), (0.0, "contradicted")])
def test_a_planted_line_is_found(effect, expected):
    verdicts = judged(PROBE, PROBE.simulate(effect, np.random.default_rng(3), spread=0.2))
    assert verdicts[MAIN].verdict == expected
    assert verdicts[EVERY_LENGTH].verdict == expected
    assert verdicts[CONTROL].verdict == "supported"


def test_a_planted_line_in_the_control_is_called_out():
    table = PROBE.simulate(0.0, np.random.default_rng(3), spread=0.2)
    moved = table["role"] == "control"
    table.loc[moved, "test_accuracy"] += 0.03 * np.log2(table.loc[moved, "batch_size"])
    assert judged(PROBE, table)[CONTROL].verdict == "contradicted"


def test_noise_that_hides_the_effect_is_inconclusive_and_says_how_many_seeds_would_do():
    verdict = judged(PROBE, PROBE.simulate(1.0, np.random.default_rng(5), spread=4.0))[MAIN]
    assert verdict.verdict == "inconclusive"
    assert "runs" in verdict.reason and "90 % power" in verdict.reason


def test_a_hump_is_not_called_support_though_the_line_rises():
    probe = BatchSize(batch_sizes=(16, 64, 256, 1024), epochs=(5,), seeds=8, control=False)
    rising = judged(probe, probe.simulate(6.0, np.random.default_rng(0), spread=0.2))[MAIN]
    hump = judged(probe, probe.simulate(6.0, np.random.default_rng(0), spread=0.2, hump=12.0))[MAIN]
    assert rising.verdict == "supported" and "at batch size 1024" in rising.reason
    assert hump.low > probe.margin
    assert hump.verdict == "inconclusive" and "over all lengths, batch size 256 beats" in hump.reason


def test_a_hump_at_one_length_stops_the_claim_about_every_length():
    probe = BatchSize(batch_sizes=(16, 64, 256, 1024), epochs=(5, 20), seeds=8, control=False)
    table = probe.simulate(8.0, np.random.default_rng(0), spread=0.2)
    humped = (table["epochs"] == 5) & (table["batch_size"] == 256)
    table.loc[humped, "test_accuracy"] += 0.06
    verdicts = judged(probe, table)
    assert verdicts[EVERY_LENGTH].low > probe.margin
    assert verdicts[EVERY_LENGTH].verdict == "inconclusive"
    assert "at length 5, batch size 256 beats" in verdicts[EVERY_LENGTH].reason


def test_the_interval_of_every_length_is_that_of_the_smallest_change():
    table = PROBE.simulate(8.0, np.random.default_rng(3), spread=2.0)
    per_length = [list(changes_by_hand(table, epochs)) for epochs in (5, 20)]
    intervals = [scipy_stats.ttest_1samp(values, 0).confidence_interval(0.975) for values in per_length]
    verdict = judged(PROBE, table)[EVERY_LENGTH]
    assert verdict.effect == pytest.approx(min(np.mean(values) for values in per_length))
    assert verdict.low == pytest.approx(min(interval.low for interval in intervals))
    assert verdict.high == pytest.approx(min(interval.high for interval in intervals))
    assert verdict.p is None


def changes_by_hand(table, epochs):
    for block in range(5):
        rows = table[(table["role"] == "arm") & (table["block"] == block) & (table["epochs"] == epochs)]
        yield np.polyfit(np.log2(rows["batch_size"]), 100 * rows["test_accuracy"], 1)[0] * 4


def test_one_length_that_falls_short_contradicts_every_length_but_not_the_mean():
    table = PROBE.simulate(8.0, np.random.default_rng(3), spread=0.2)
    short = (table["role"] == "arm") & (table["epochs"] == 20)
    table.loc[short, "test_accuracy"] -= 0.08 * (np.log2(table.loc[short, "batch_size"]) - 4) / 4
    verdicts = judged(PROBE, table)
    assert verdicts[MAIN].verdict == "supported"
    assert "+8." in verdicts[MAIN].reason.split("at 5,")[0] and "at 20." in verdicts[MAIN].reason
    assert verdicts[EVERY_LENGTH].verdict == "contradicted"
    assert "that at 20 epochs" in verdicts[EVERY_LENGTH].reason
    assert verdicts[EVERY_LENGTH].level == pytest.approx(0.975)


def test_one_noisy_length_leaves_every_length_open():
    table = PROBE.simulate(8.0, np.random.default_rng(3), spread=0.2)
    noisy = (table["role"] == "arm") & (table["epochs"] == 5)
    table.loc[noisy, "test_accuracy"] += np.random.default_rng(1).normal(0, 0.08, noisy.sum())
    verdict = judged(PROBE, table)[EVERY_LENGTH]
    assert verdict.verdict == "inconclusive" and verdict.low < PROBE.margin < verdict.high


def test_a_diverged_run_forces_inconclusive_and_is_counted():
    table = PROBE.simulate(8.0, np.random.default_rng(3), spread=0.2)
    row = table.index[(table["role"] == "arm") & (table["batch_size"] == 256)][0]
    table.loc[row, "test_accuracy"], table.loc[row, "diverged"] = np.nan, True
    verdicts = judged(PROBE, table)
    assert verdicts[MAIN].verdict == verdicts[EVERY_LENGTH].verdict == "inconclusive"
    assert "1 of 30 runs diverged (batch size 256)" in verdicts[MAIN].reason
    assert verdicts[MAIN].n == 4
    assert verdicts[CONTROL].verdict == "supported"


def test_everything_diverged_is_judged_without_an_error():
    table = PROBE.simulate(8.0, np.random.default_rng(3))
    table["test_accuracy"], table["diverged"] = np.nan, True
    verdicts = PROBE.judge(table)
    assert {verdict.verdict for verdict in verdicts} == {"inconclusive"}
    assert all(verdict.effect is None and verdict.n == 0 for verdict in verdicts)
    assert PROBE.effects(table)["n"].eq(0).all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_no_verdict_and_say_so(seeds):
    probe = BatchSize(seeds=seeds)
    for verdict in probe.judge(probe.simulate(50.0, np.random.default_rng(0), spread=0.1)):
        assert verdict.verdict == "inconclusive"
        assert f"{seeds} independent" in verdict.reason


def test_judging_is_pure():
    table = PROBE.simulate(2.0, np.random.default_rng(0))
    before = table.copy(deep=True)
    first, second = PROBE.judge(table), PROBE.judge(table)
    assert first == second
    pd.testing.assert_frame_equal(table, before)


def test_false_support_at_the_margin_is_rare_and_coverage_is_nominal():
    """At a true effect of exactly δ, 2.5 % of verdicts may say "supported"; the interval covers δ in 95 %."""
    probe = BatchSize(batch_sizes=(16, 64, 256), epochs=(5,), seeds=4, control=False)
    rng, studies = np.random.default_rng(11), 600
    verdicts = [probe.judge(probe.simulate(probe.margin, rng))[0] for _ in range(studies)]
    supported = sum(verdict.verdict == "supported" for verdict in verdicts)
    covered = sum(verdict.low <= probe.margin <= verdict.high for verdict in verdicts)
    assert scipy_stats.binomtest(supported, studies, 0.025, alternative="greater").pvalue > 1e-4
    assert scipy_stats.binomtest(covered, studies, 0.95).pvalue > 1e-4


def test_claims_state_everything_before_a_run():
    claims = {claim.id: claim for claim in PROBE.claims()}
    assert set(claims) == {MAIN, EVERY_LENGTH, CONTROL}
    for claim in claims.values():
        assert claim.margin == 1.0 and claim.unit == "percentage points"
        assert "digits" in claim.scope and "0.0008" in claim.scope
        assert any("learning rate" in item for item in claim.held_fixed)
    assert {claim.id for claim in BatchSize(epochs=(5,), control=False).claims()} == {MAIN}


def test_settings_survive_the_way_through_json():
    import json

    from mlptheory.base.configuration import from_plain

    probe = BatchSize(seeds=(3, 1, 4), lr=1e-3, batch_sizes=(8, 32), epochs=(1, 2, 3))
    assert from_plain(BatchSize, json.loads(json.dumps(probe.settings()))) == probe


def test_power_without_a_pilot_is_in_spreads_and_too_few_seeds_are_told():
    power = PROBE.power(None)
    assert "spreads beyond" in power[MAIN] and "at each length" in power[EVERY_LENGTH]
    # Simultaneous intervals are wider, so each length needs the larger effect.
    found = [float(power[claim].split("effect ")[1].split(" ")[0]) for claim in (MAIN, EVERY_LENGTH)]
    assert found[0] < found[1]
    assert all("too few" in text for text in BatchSize(seeds=2).power(None).values())


def test_columns_hold_every_label_and_are_unique():
    names = [column.name for column in PROBE.columns()]
    assert len(names) == len(set(names))
    assert set(dict(PROBE.trials()[0].labels)) <= set(names)
    assert all(column.description for column in PROBE.columns())


def test_a_design_needs_no_torch_and_no_pandas():
    code = (
        "import sys; from mlptheory.probes import BatchSize; p = BatchSize(); p.trials(); p.claims();"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROBE.seeds = 3


def test_the_controls_power_is_that_of_the_equivalence():
    """At the spread the plan names, 90 % of null controls lie within ±δ; found again by simulation."""
    probe = BatchSize(seeds=6, epochs=(5,))
    largest = float(probe.power(None)[CONTROL].split("at most ")[1].split(" ")[0])
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(4000):
        changes = rng.normal(0, largest, 6)
        half = scipy_stats.t.ppf(0.975, 5) * changes.std(ddof=1) / np.sqrt(6)
        inside += abs(changes.mean()) + half < probe.margin
    assert inside / 4000 == pytest.approx(0.9, abs=0.03)
