"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pytest

from mlptheory.probes import Permutation, calibrate
from mlptheory.probes import calibration as module
from mlptheory.probes.permutation.cells import Cells
from mlptheory.probes.permutation.evidence import gather
from tests.probes.permutation.conftest import PROBE, TINY, made_up_bank, plant

SMALL = Permutation(seeds=6, exact_seeds=5, shuffles=1)
SCENARIOS = {scenario.name: scenario for scenario in SMALL.scenarios()}


@pytest.mark.parametrize("bank", [None, made_up_bank(spread=0.5)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("name", ["none", "margin", "lower margin", "reversed", "parting", "agreeing", "fanning"])
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    """Each estimate less its truth has mean 0; of a smallest of several, the smallest part has."""
    scenario, tables = SCENARIOS[name], 60
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
        slack = 0.2 * (len(mean) > 1) * error.max() + 1e-9
        assert abs(mean[smallest]) < 4 * error[smallest] + slack, claim


def test_truths_are_margins_in_the_scenario_of_that_name():
    margins = {claim.id: claim.margin for claim in SMALL.claims()}
    assert SMALL.truths(SCENARIOS["margin"], None) == pytest.approx(margins)
    for name in ("ties", "agreeing", "fanning", "diverged"):
        assert SMALL.truths(SCENARIOS[name], None) == pytest.approx(margins | {"leak-check": 0.0})


def test_blocks_that_agree_agree_to_the_last_digit():
    table = SMALL.simulate(SCENARIOS["agreeing"], np.random.default_rng(0))
    exact = table[table["role"] == "exact"].groupby(["model", "optimizer"])
    assert (exact["permuted_logit_deviation"].nunique() == 1).all()
    assert (exact["wrong_weight_deviation"].nunique() == 1).all()


def test_a_share_of_blocks_parts():
    probe = dataclasses.replace(SMALL, seeds=300, exact_seeds=300)
    table = probe.simulate(SCENARIOS["parting"], np.random.default_rng(0))
    exact = table[(table["role"] == "exact")]
    first = (exact["model"] == "S-2/Wi-32") & (exact["optimizer"] == "sgd")
    parted = exact["permuted_logit_deviation"] > 1e-3
    assert parted[first].mean() == pytest.approx(0.43, abs=0.1) and not parted[~first].any()


def test_a_bank_is_drawn_without_return_until_it_is_used_up():
    bank = made_up_bank(spread=1.0, runs=400)
    table = SMALL.simulate(plant(), np.random.default_rng(0), bank)
    runs = table.loc[(table["role"] == "run") & (table["arm"] == "mlp"), "test_accuracy"]
    assert runs.nunique() == len(runs)


def test_a_fan_widens_permuted_runs():
    probe = dataclasses.replace(SMALL, seeds=200)
    table = probe.simulate(plant(fanning=4.0), np.random.default_rng(0), made_up_bank(spread=1.0))
    spread = table[(table["role"] == "run") & (table["arm"] == "mlp")].groupby("images")["test_accuracy"].std()
    assert spread["permuted"] / spread["plain"] == pytest.approx(4.0, rel=0.3)


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
    assert found.bank["images"].tolist() == ["plain", "plain", "both"] * 2
    assert found.bank["wrong_weight_deviation"].notna().sum() == 2
