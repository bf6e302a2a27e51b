"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pytest

from mlptheory.probes import calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.sharpness import claims as named
from mlptheory.probes.sharpness.cells import Cells
from mlptheory.probes.sharpness.evidence import gather
from tests.probes.sharpness.conftest import PROBE, TINY, made_up_bank, plant

SCENARIOS = {scenario.name: scenario for scenario in PROBE.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=0.3)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("name", ["margin", "strong", "reversed", "rising hump", "fanning"])
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    scenario, tables = SCENARIOS[name], 60
    truths, errors = PROBE.truths(scenario, None), {claim.id: [] for claim in PROBE.claims()}
    for index in range(tables):
        cells = Cells(PROBE, PROBE.simulate(scenario, np.random.default_rng([index, 5]), bank))
        for claim, found in errors.items():
            estimate = gather(PROBE, cells, claim).estimate.estimate
            found.append(estimate - truths[claim])
    for claim, found in errors.items():
        error = np.std(found, ddof=1) / np.sqrt(tables)
        assert abs(np.mean(found)) < 4 * error + 1e-9, claim


def test_truths_are_margins_in_the_scenario_of_that_name():
    truths = PROBE.truths(SCENARIOS["margin"], None)
    signs = {named.WIDER: -1, named.BELOW: -1, named.SAME_FUNCTION: -1, named.SAME_ADAPTIVE: -1}
    assert truths == {claim.id: signs.get(claim.id, 1) * claim.margin for claim in PROBE.claims()}


def test_a_table_has_what_its_part_measures():
    table = PROBE.simulate(plant(), np.random.default_rng(0))
    assert [dict(trial.labels)["seed"] for trial in PROBE.trials()] == table["seed"].tolist()
    for role, outcome in (("edge", "edge_hovering"), ("flow", "sharpening"), ("batch", "rescaling_7")):
        assert (table[outcome].notna() == (table["role"] == role)).all()


def test_a_banks_values_are_kept_in_the_planted_order():
    bank = made_up_bank()
    table = PROBE.simulate(plant(predicts=4.0), np.random.default_rng(0), bank)
    real = bank.loc[bank["role"] == "batch", "sharpness_at_target"].to_numpy()
    found = table.loc[table["role"] == "batch", "sharpness_at_target"].to_numpy()
    assert np.isclose(found[:, None], real[None, :]).any(axis=1).all() and len(set(found)) == len(found)


def test_a_fan_widens_the_largest_nets():
    probe = dataclasses.replace(PROBE, seeds=400)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=0.3, runs=4000))
    flows = table[(table["role"] == "flow") & (table["depth"] == 2)]
    spread = flows.groupby("width")["sharpening"].std()
    # The center's depth, between the others, has a share of the fan.
    assert spread[64] / spread[16] == pytest.approx(4 ** (1 - np.log2(2) / np.log2(3)), rel=0.15)


def test_scenarios_have_names_of_their_own_and_say_what_they_are():
    assert len(SCENARIOS) == len(PROBE.scenarios()) and all(each.description for each in PROBE.scenarios())


def test_a_small_calibration_judges_made_and_real_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FEWEST_RUNS", 6)
    found = calibrate(TINY, tables=4, bank_runs=6, store=tmp_path, workers=1, progress=False)
    places = {(row["kind"], row["scenario"]) for row in found.rows}
    assert len(places) == 2 * len(SCENARIOS)
    assert len(found.bank) == 6 and set(found.bank["role"]) == {"edge", "flow", "batch"}
