"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pytest

from mlptheory.probes import calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.locality.cells import Cells
from mlptheory.probes.locality.evidence import gather
from tests.probes.locality.conftest import PROBE, TINY, made_up_bank, plant

SCENARIOS = {scenario.name: scenario for scenario in PROBE.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=3.0)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("statistic", ["local_share", "ipr", "spread"])
@pytest.mark.parametrize("name", ["margin", "reversed", "rising hump", "dip", "fanning"])
def test_planted_truths_are_the_means_of_the_estimates(name, statistic, bank):
    probe, scenario, tables = dataclasses.replace(PROBE, statistic=statistic), SCENARIOS[name], 40
    truths, errors = probe.truths(scenario, None), {claim.id: [] for claim in probe.claims()}
    for index in range(tables):
        cells = Cells(probe, probe.simulate(scenario, np.random.default_rng([index, 5]), bank))
        for claim, found in errors.items():
            found.append(gather(probe, cells, claim).estimate.estimate - truths[claim])
    for claim, found in errors.items():
        error = np.std(found, ddof=1) / np.sqrt(tables)
        assert abs(np.mean(found)) < 4 * error + 1e-9, claim


def test_truths_are_margins_in_the_scenario_of_that_name():
    truths = PROBE.truths(SCENARIOS["margin"], None)
    assert truths == {claim.id: claim.margin for claim in PROBE.claims()}
    both = PROBE.truths(SCENARIOS["both arms"], None)
    assert both["data-localizes"] == 8.0 and both["only-with-augmentation"] == 0.0


def test_a_net_keeps_what_its_filters_and_its_references_share():
    """With a bank whose columns are one, filters are never more local than their surrogates."""
    bank = made_up_bank(spread=3.0)
    bank["change_local_share_gaussian"] = bank["change_local_share"]
    table = PROBE.simulate(plant(), np.random.default_rng(0), bank)
    assert np.allclose(table["change_local_share"], table["change_local_share_gaussian"])
    assert table["change_local_share"].std() > 0.005


def test_a_bank_is_drawn_without_return_until_it_is_used_up():
    table = PROBE.simulate(plant(), np.random.default_rng(0), made_up_bank(spread=1.0, nets=len(PROBE.trials())))
    assert table["change_local_share"].nunique() == len(table)


def test_a_fan_widens_the_largest_training_set():
    probe = dataclasses.replace(PROBE, seeds=200)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=1.0, nets=4000))
    runs = table[table["role"].isin(["size", "center"])]
    spread = runs.groupby("n")["change_local_share"].std()
    assert spread[1197] / spread[75] == pytest.approx(4.0, rel=0.15)


def test_the_table_has_a_row_for_every_trial():
    table = PROBE.simulate(plant(), np.random.default_rng(0))
    assert [dict(trial.labels)["seed"] for trial in PROBE.trials()] == table["seed"].tolist()


def test_scenarios_have_names_of_their_own_and_say_what_they_are():
    assert len(SCENARIOS) == len(PROBE.scenarios()) and all(each.description for each in PROBE.scenarios())


def test_a_small_calibration_judges_made_and_real_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FEWEST_RUNS", 6)
    found = calibrate(TINY, tables=6, bank_runs=6, store=tmp_path, workers=1, progress=False)
    places = {(row["kind"], row["scenario"]) for row in found.rows}
    assert len(places) == 2 * len(SCENARIOS)
    assert len(found.bank) == 6 and found.bank["change_local_share"].nunique() == 6
