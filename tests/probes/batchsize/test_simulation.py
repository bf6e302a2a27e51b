"""What is planted is what the estimates find, on average over many tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlptheory.probes import BatchSize
from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.claims import CNN, EVERY_LENGTH, GROWS, LEAK, MAIN, NOISE_SCALE, TUNING
from mlptheory.probes.batchsize.evidence import gather
from mlptheory.probes.batchsize.tuning import choose
from tests.probes.batchsize.conftest import PROBE, WIDE, plant, quiet, quiet_bank

SMALL = BatchSize(
    batch_sizes=(64, 16),
    lengths=(20, 5),
    seeds=6,
    cnn="CNN-1/Wi-4",
    lr_policies=("fixed", "tuned"),
    lr_grid=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    tuning_seeds=1,
)
SCENARIOS = {scenario.name: scenario for scenario in SMALL.scenarios()}


def estimates(probe, table):
    cells, chosen = Cells(probe, table), choose(probe, table)
    found = {}
    for claim in probe.claims():
        evidence = gather(probe, cells, chosen, claim.id)
        found[claim.id] = [part.estimate for part in evidence.estimate.components]
    return found


@pytest.mark.parametrize("bank", [None, quiet_bank(spread=1.0)], ids=["gaussian", "bank"])
@pytest.mark.parametrize("name", ["none", "margin", "reversed", "rising hump", "fanning", "drift"])
def test_planted_truths_are_the_means_of_the_estimates(name, bank):
    """Each estimate less its table's truth has mean 0; of a smallest of several, each part is the truth or above."""
    probe, scenario, tables = SMALL, SCENARIOS[name], 40
    errors = {claim.id: [] for claim in probe.claims()}
    for index in range(tables):
        table = probe.simulate(scenario, np.random.default_rng([index, 5]), bank)
        truth = probe.truths(scenario, table)
        for claim, parts in estimates(probe, table).items():
            errors[claim].append([part - truth[claim] for part in parts])
    for claim, found in errors.items():
        parts = np.array(found)
        mean, error = parts.mean(axis=0), parts.std(axis=0, ddof=1) / np.sqrt(tables)
        # The two lengths and the two models may differ; the smallest of their means is the truth.
        smallest = mean.argmin()
        assert abs(mean[smallest]) < 4 * error[smallest] + 0.2 * (len(mean) > 1) * error.max(), claim


def test_truths_are_what_is_planted_where_nothing_is_tuned():
    table = quiet(WIDE)
    truths = WIDE.truths(
        plant(change=3.0, growth=2.0, cnn=-1.0, sharpness=2.0, examples=-1.0, control=1.0, curvature=0.0), table
    )
    margin = WIDE.margin
    assert truths[MAIN] == truths[TUNING] == pytest.approx(3 * margin)
    assert truths[EVERY_LENGTH] == pytest.approx(2 * margin) and truths[GROWS] == pytest.approx(2 * margin)
    assert truths[CNN] == pytest.approx(1 * margin)
    margins = {claim.id: claim.margin for claim in WIDE.claims()}
    assert truths["sharpness-rises"] == pytest.approx(2 * margins["sharpness-rises"])
    assert truths["more-examples-to-target"] == pytest.approx(-margins["more-examples-to-target"])
    for control in ("a-a-control", LEAK, NOISE_SCALE):
        assert truths[control] == pytest.approx(margins[control])
    assert set(truths) == {claim.id for claim in WIDE.claims()}


def test_what_a_tuned_learning_rate_misses_is_part_of_the_truth():
    """The best rate at the largest batch lies beyond the grid: what is lost there is the tuned runs' alone."""
    scenario = plant(change=8.0, drift=6.0)
    table = PROBE.simulate(scenario, np.random.default_rng(0), quiet_bank())
    truths = PROBE.truths(scenario, table)
    assert truths[MAIN] == pytest.approx(8.0)
    # Costs at 16, 64, 256: 0, 0, (6 - 3)² margins; the line's change is that of the ends.
    assert truths[TUNING] == pytest.approx(8.0 - 9.0)


def test_every_scenario_is_a_world_of_its_own_and_says_what_holds():
    assert len(SCENARIOS) == len(PROBE.scenarios())
    assert all(scenario.description for scenario in PROBE.scenarios())


@pytest.mark.parametrize("bank", [None, quiet_bank()], ids=["gaussian", "bank"])
def test_a_table_is_decided_by_its_generator(bank):
    one, same, other = (SMALL.simulate(SCENARIOS["diverged"], np.random.default_rng(seed), bank) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert (one["test_accuracy"] != other["test_accuracy"]).any()


def test_a_table_has_the_rows_of_the_design_at_the_learning_rates_its_tuning_chose():
    table = SMALL.simulate(SCENARIOS["drift"], np.random.default_rng(0))
    first = table.iloc[: len(SMALL.trials())]
    labels = pd.DataFrame([dict(trial.labels) for trial in (*SMALL.trials(), *SMALL.follow_up(first))])
    pd.testing.assert_frame_equal(table[labels.columns], labels, check_dtype=False)


def test_runs_of_a_block_share_a_shift_and_fanning_spreads_the_largest_batch():
    probe = dataclasses.replace(SMALL, seeds=400, cnn=None, control=False, lr_policies=("fixed",))
    values = {}
    for name, fanning in (("even", 1.0), ("fanning", 4.0)):
        table = probe.simulate(plant(fanning=fanning), np.random.default_rng(0))
        values[name] = Cells(probe, table).accuracy("mlp", "fixed", 5)
    even, fanned = (np.cov(values[name].T) for name in ("even", "fanning"))
    assert even[0, 1] / np.sqrt(even[0, 0] * even[1, 1]) == pytest.approx(0.5, abs=0.1)
    assert fanned[1, 1] / even[1, 1] == pytest.approx((1 + 16) / 2, rel=0.25)
    assert fanned[0, 0] / even[0, 0] == pytest.approx(1, rel=0.25)


def test_diverged_runs_are_as_many_as_planted_and_have_no_outcome():
    table = WIDE.simulate(plant(diverged=0.2), np.random.default_rng(0))
    assert table["diverged"].mean() == pytest.approx(0.2, abs=0.06)
    assert table.loc[table["diverged"], ["test_accuracy", "examples_to_target", "excess_loss"]].isna().all(axis=None)
    assert table.loc[~table["diverged"], "test_accuracy"].notna().all()
