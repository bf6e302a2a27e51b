"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pytest

from mlptheory.probes import Transfer, calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.transfer.cells import Cells
from mlptheory.probes.transfer.evidence import gather
from tests.probes.transfer.conftest import PROBE, TINY, made_up_bank, plant

SMALL = Transfer(batch_sizes=(64, 16, 32), lengths=(20, 5), seeds=6, control_runs=1, shuffles=1)
SCENARIOS = {scenario.name: scenario for scenario in SMALL.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=1.0)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("name", ["none", "margin", "one length", "reversed", "rising hump", "fanning"])
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    """Each estimate less its truth has mean 0; of a smallest of several, the smallest part has."""
    scenario, tables = SCENARIOS[name], 40
    truths, errors = SMALL.truths(scenario, None), {claim.id: [] for claim in SMALL.claims()}
    for index in range(tables):
        cells = Cells(SMALL, SMALL.simulate(scenario, np.random.default_rng([index, 5]), bank))
        for claim, found in errors.items():
            estimate = gather(SMALL, cells, claim).estimate
            found.append([part.estimate - truths[claim] for part in estimate.components])
    for claim, found in errors.items():
        parts = np.array(found)
        mean, error = parts.mean(axis=0), parts.std(axis=0, ddof=1) / np.sqrt(tables)
        smallest = mean.argmin()
        assert abs(mean[smallest]) < 4 * error[smallest] + 0.2 * (len(mean) > 1) * error.max(), claim


def test_truths_are_margins_in_the_scenario_of_that_name():
    for name in ("margin", "ties", "fanning"):
        truths = SMALL.truths(SCENARIOS[name], None)
        assert truths == pytest.approx({claim.id: claim.margin for claim in SMALL.claims()} | zero(name))
    truths = SMALL.truths(SCENARIOS["one length"], None)
    assert truths["at-every-length"] == pytest.approx(2.0) and truths["larger-batches-transfer-better"] == 10.0


def zero(name):
    return {} if name == "margin" else {"a-a-control": 0.0, "leak-check": 0.0}


def test_ties_are_ties():
    table = SMALL.simulate(plant(apart=0.0), np.random.default_rng(0), made_up_bank(spread=1e-6))
    means = table[table["role"] == "run"].groupby("stage")["test_accuracy"].mean()
    assert means["scratch"] == pytest.approx(means["scratch-as-finetuning"], abs=1e-6)


def test_a_body_keeps_what_its_probe_and_its_fine_tuning_share():
    """With a bank whose three outcomes are one, so are those of every body."""
    bank = made_up_bank(spread=1.0)
    for column in ("test_accuracy", "tta_accuracy"):
        shared = bank.groupby("block")["test_accuracy"].transform("first")
        bank[column] = shared.where((bank["stage"] == "finetuning") | (column == "test_accuracy"))
    table = SMALL.simulate(plant(), np.random.default_rng(0), bank)
    runs = table[table["role"] == "run"].set_index(["arm", "length", "batch_size", "block"])
    probed, finetuned = (runs.loc[runs["stage"] == stage] for stage in ("probing", "finetuning"))
    joined = probed[["test_accuracy"]].join(finetuned[["tta_accuracy"]])
    assert np.allclose(joined["test_accuracy"], finetuned["test_accuracy"].loc[joined.index])
    assert np.allclose(joined["test_accuracy"], joined["tta_accuracy"])
    assert joined["test_accuracy"].std() > 0.005


def test_a_bank_is_drawn_without_return_until_it_is_used_up():
    bank = made_up_bank(spread=1.0, bodies=400)
    table = SMALL.simulate(plant(), np.random.default_rng(0), bank)
    probed = table.loc[(table["role"] == "run") & (table["stage"] == "probing"), "test_accuracy"]
    assert probed.nunique() == len(probed)


def test_a_fan_widens_the_largest_batch():
    probe = dataclasses.replace(SMALL, seeds=200)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=1.0))
    runs = table[(table["role"] == "run") & (table["stage"] == "probing")]
    spread = runs.groupby("batch_size")["test_accuracy"].std()
    assert spread[64] / spread[16] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("probe", [PROBE, SMALL])
def test_the_table_has_a_row_for_every_trial(probe):
    table = probe.simulate(plant(), np.random.default_rng(0))
    assert len(table) == len(probe.trials())
    assert [dict(trial.labels)["seed"] for trial in probe.trials()] == table["seed"].tolist()


def test_scenarios_have_names_of_their_own_and_say_what_they_are():
    assert len(SCENARIOS) == len(SMALL.scenarios()) and all(each.description for each in SMALL.scenarios())


def test_a_small_calibration_judges_made_and_real_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FEWEST_RUNS", 6)
    found = calibrate(TINY, tables=6, bank_runs=6, store=tmp_path, workers=1, progress=False)
    places = {(row["kind"], row["scenario"]) for row in found.rows}
    assert len(places) == 2 * len(SCENARIOS)
    assert len(found.bank) == 6 and found.bank["stage"].tolist() == ["probing", "finetuning"] * 3
    assert found.bank["tta_accuracy"].notna().sum() == 3
