"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pytest

from mlptheory.probes import Augmentation, calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.augmentation import claims as named
from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.evidence import gather
from mlptheory.probes.augmentation.tuning import choose
from tests.probes.augmentation.conftest import PROBE, TINY, UNTUNED, made_up_bank, plant

SMALL = Augmentation(sizes=(40, 10, 20), seeds=6, control_runs=1, tuning_seeds=1, lr_grid=(0.25, 1.0, 4.0))
SCENARIOS = {scenario.name: scenario for scenario in SMALL.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=1.0)], ids=["gaussian", "bank"])
@pytest.mark.parametrize(
    "name", ["none", "margin", "odds", "worth one step once", "shallow", "steep", "drift", "fanning"]
)
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    """Each estimate less its table's truth has mean 0; of a smallest of several, the smallest part has."""
    scenario, tables = SCENARIOS[name], 40
    errors = {claim.id: [] for claim in SMALL.claims()}
    for index in range(tables):
        table = SMALL.simulate(scenario, np.random.default_rng([index, 5]), bank)
        truths, cells, chosen = SMALL.truths(scenario, table), Cells(SMALL, table), choose(table)
        for claim, found in errors.items():
            estimate = gather(SMALL, cells, chosen, claim).estimate
            if estimate is not None:
                found.append([part.estimate - truths[claim] for part in estimate.components])
    for claim, found in errors.items():
        parts = np.array(found)
        assert len(parts) > 0.8 * tables
        mean, error = parts.mean(axis=0), parts.std(axis=0, ddof=1) / np.sqrt(len(parts))
        smallest = mean.argmin()
        assert abs(mean[smallest]) < 4 * error[smallest] + 0.2 * (len(mean) > 1) * error.max(), claim


def planted(probe, name):
    scenario = SCENARIOS[name]
    return probe.truths(scenario, probe.simulate(scenario, np.random.default_rng(0), made_up_bank()))


def test_truths_are_margins_in_the_scenario_of_that_name():
    """On both scales of the lead over the baseline at once they cannot be; in log-odds they are in its own scenario."""
    expected = {claim.id: claim.margin * (-1 if claim.direction == "less" else 1) for claim in SMALL.claims()}
    found = planted(SMALL, "margin")
    for name in (named.WORTH, named.OVER_CNN_ODDS):
        del expected[name]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert planted(SMALL, "odds")[named.OVER_CNN_ODDS] == pytest.approx(SMALL.log_odds_margin)
    for name in ("worth one step", "worth one step once"):
        assert planted(SMALL, name)[named.WORTH] == pytest.approx(0.0)


def test_at_the_margin_is_at_the_margin_to_the_last_digits():
    """Calibration takes a truth within 1e-9 of the margin to be at it."""
    for name in ("margin", "ties"):
        assert abs(planted(SMALL, name)[named.LIFTS] - SMALL.margin) < 1e-9
    assert abs(planted(SMALL, "odds")[named.OVER_CNN_ODDS] - SMALL.log_odds_margin) < 1e-9
    assert abs(planted(SMALL, "worth one step")[named.WORTH]) < 1e-9
    assert abs(planted(SMALL, "margin")[named.INVARIANCE] + SMALL.invariance_margin) < 1e-9


def test_where_nothing_can_be_matched_there_is_no_truth():
    assert np.isnan(planted(SMALL, "apart")[named.INVARIANCE])


def test_steeper_lines_differ_by_more_where_nets_are_worse():
    """They meet, margin aside, at 60 %; the log error falls by 0.03 a point, twice that under augmentation."""
    scenario = plant(steepening=2.0, lift=2.0)
    table = SMALL.simulate(scenario, np.random.default_rng(0), made_up_bank())
    runs = table[(table["role"] == "run") & (table["learner"] == "mlp")]
    means = 100 * runs.groupby(["arm", "size"])["test_accuracy"].mean()
    at = (means["crop+mixup", 10] + means["none", 40]) / 2
    assert SMALL.truths(scenario, table)[named.INVARIANCE] == pytest.approx(-0.03 * (at - 60), abs=1e-6)


@pytest.mark.parametrize("probe", [PROBE, SMALL, UNTUNED])
def test_the_table_has_a_row_for_every_trial(probe):
    table = probe.simulate(plant(), np.random.default_rng(0))
    trials = (*probe.trials(), *probe.follow_up(None))
    assert [dict(trial.labels)["seed"] for trial in trials] == table["seed"].tolist()
    assert [dict(trial.labels)["arm"] for trial in trials] == table["arm"].tolist()


def test_runs_are_at_the_rate_that_a_tables_tuning_chose():
    table = SMALL.simulate(plant(drift=2.0), np.random.default_rng(0), made_up_bank())
    chosen = choose(table)
    assert chosen["mlp", "crop+mixup"].lr == 4 * SMALL.base_lr("mlp") == 4 * chosen["mlp", "none"].lr
    for row in table[table["role"] != "tuning"].to_dict("records"):
        assert row["lr"] == chosen[row["learner"], row["arm"]].lr


def test_a_bank_is_drawn_without_return_until_it_is_used_up_and_keeps_a_runs_outcomes_together():
    bank = made_up_bank(spread=1.0, runs=400)
    bank["change_local_share"] = bank["test_accuracy"] - 0.2
    table = SMALL.simulate(plant(), np.random.default_rng(0), bank)
    runs = table[(table["role"] == "run") & (table["arm"] == "none") & (table["size"] == 40)]
    assert runs["test_accuracy"].nunique() == len(runs)
    assert (runs["test_accuracy"] - runs["change_local_share"]).round(9).nunique() == 1


def test_a_fan_widens_the_runs_with_augmentation():
    probe = dataclasses.replace(SMALL, seeds=200)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=1.0))
    runs = table[(table["role"] == "run") & (table["size"] == 40) & (table["learner"] == "mlp")]
    spread = runs.groupby("arm")["test_accuracy"].std()
    assert spread["crop"] / spread["none"] == pytest.approx(4.0, rel=0.2)


def test_scenarios_have_names_of_their_own_and_say_what_they_are():
    assert len(SCENARIOS) == len(SMALL.scenarios()) and all(each.description for each in SMALL.scenarios())


def test_a_small_calibration_judges_made_and_real_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FEWEST_RUNS", 6)
    found = calibrate(TINY, tables=4, bank_runs=6, store=tmp_path, workers=1, progress=False)
    places = {(row["kind"], row["scenario"]) for row in found.rows}
    assert len(places) == 2 * len(SCENARIOS) and len(found.bank) == 6
    outcomes = ["test_accuracy", "shift_error_logits", "change_local_share", "neighbor_accuracy"]
    assert found.bank[outcomes].notna().all(axis=None)
