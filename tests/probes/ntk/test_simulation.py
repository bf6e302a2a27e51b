"""What is planted is what the estimates find, on average over many tables."""

import numpy as np
import pytest

from mlptheory.probes import calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.ntk import claims as named
from mlptheory.probes.ntk.cells import Cells
from mlptheory.probes.ntk.evidence import gather
from mlptheory.stats import SmallestEstimate
from tests.probes.ntk.conftest import PROBE, TINY, made_up_bank, plant, with_seeds

SCENARIOS = {scenario.name: scenario for scenario in PROBE.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=0.1)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("name", ["margin", "below", "alone", "reversed", "opposed", "bend", "fanning"])
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    scenario, tables = SCENARIOS[name], 40
    truths, errors = PROBE.truths(scenario, None), {claim.id: [] for claim in PROBE.claims()}
    for index in range(tables):
        cells = Cells(PROBE, PROBE.simulate(scenario, np.random.default_rng([index, 5]), bank))
        for claim, found in errors.items():
            estimate = gather(PROBE, cells, claim).estimate
            if isinstance(estimate, SmallestEstimate):
                continue  # the smallest of noisy estimates falls short of the smallest
            found.append(estimate.estimate - truths[claim])
    for claim, found in errors.items():
        if found:
            error = np.std(found, ddof=1) / np.sqrt(tables)
            assert abs(np.mean(found)) < 4 * error + 1e-9, claim


@pytest.mark.parametrize("name", ["none", "margin", "twice", "opposed", "far opposed", "reversed"])
def test_the_room_of_a_table_without_noise_is_what_is_planted(name):
    scenario = SCENARIOS[name]
    cells = Cells(PROBE, PROBE.simulate(scenario, np.random.default_rng(0), made_up_bank(spread=1e-9)))
    for claim in (named.CURVE, named.COORDINATES):
        found = gather(PROBE, cells, claim).estimate.estimate
        assert found == pytest.approx(PROBE.truths(scenario, None)[claim], abs=1e-6)


def test_truths_are_margins_in_the_scenario_of_that_name():
    truths = PROBE.truths(SCENARIOS["margin"], None)
    assert truths == pytest.approx({claim.id: claim.margin for claim in PROBE.claims()}, abs=1e-12)


def test_a_bank_is_drawn_without_return_until_it_is_used_up():
    table = PROBE.simulate(plant(), np.random.default_rng(0), made_up_bank(spread=1.0, nets=len(PROBE.trials())))
    seen = table["net_accuracy"][table["role"] != "infinite"]
    assert seen.nunique() == len(seen)


def test_a_fan_widens_the_largest_width():
    probe = with_seeds(200)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=0.1, nets=8000))
    spread = np.log2(table[table["role"] == "ntk"]["kernel_change"]).groupby(table["width"]).std()
    assert spread[64] / spread[16] == pytest.approx(4.0, rel=0.2)


def test_the_table_has_a_row_for_every_trial():
    table = PROBE.simulate(plant(), np.random.default_rng(0))
    assert [dict(trial.labels)["seed"] for trial in PROBE.trials()] == table["seed"].tolist()


def test_scenarios_have_names_of_their_own_and_say_what_they_are():
    assert len(SCENARIOS) == len(PROBE.scenarios()) and all(each.description for each in PROBE.scenarios())


@pytest.mark.slow
def test_a_small_calibration_judges_made_and_real_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FEWEST_RUNS", 4)
    found = calibrate(TINY, tables=3, bank_runs=4, store=tmp_path, workers=1, progress=False)
    places = {(row["kind"], row["scenario"]) for row in found.rows}
    assert len(places) == 2 * len(SCENARIOS)
    assert len(found.bank) == 4 and found.bank["kernel_change"].nunique() == 4
