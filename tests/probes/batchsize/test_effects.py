"""The effects beside the verdicts' against scipy, and their documented columns."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.probes.batchsize.tuning import choose
from mlptheory.probes.result import EFFECT_COLUMNS
from tests.probes.batchsize.conftest import WIDE, plant

TABLE = WIDE.simulate(plant(change=2.0, growth=1.0, drift=1.5), np.random.default_rng(4))
EFFECTS = WIDE.effects(TABLE)


def row(quantity, effects=EFFECTS, **where):
    found = effects[effects["quantity"] == quantity]
    for name, value in where.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def runs(**where):
    found = TABLE[TABLE["role"] == "run"]
    for name, value in where.items():
        found = found[found[name] == value]
    return found.sort_values("block")


def test_every_column_is_documented():
    assert set(EFFECTS.columns) <= set(EFFECT_COLUMNS)


def test_every_arm_policy_and_length_has_its_rows_once():
    assert not EFFECTS.duplicated(["arm", "policy", "length", "quantity"]).any()
    cells = set(EFFECTS[["arm", "policy", "length"]].itertuples(index=False, name=None))
    assert cells == {(arm, policy, length) for arm in WIDE.models for policy in WIDE.lr_policies for length in (5, 20)}


@pytest.mark.parametrize("where", [("mlp", "tuned", 20), ("cnn", "fixed", 5), ("mlp", "sqrt", 5)])
def test_means_and_planned_contrasts_are_those_of_scipy(where):
    place = dict(zip(("arm", "policy", "length"), where, strict=True))
    at = {size: 100 * runs(batch_size=size, **place)["test_accuracy"].to_numpy() for size in (16, 64, 256)}
    x = np.log2([16, 64, 256])
    wanted = {f"test accuracy at batch size {size} (%)": values for size, values in at.items()}
    wanted["batch size 64 less 16 (points)"] = at[64] - at[16]
    wanted["batch size 256 less 64 (points)"] = at[256] - at[64]
    wanted["change, smallest to largest batch (points)"] = 4 * np.polyfit(x, np.array([*at.values()]), 1)[0]
    for quantity, values in wanted.items():
        found, expected = row(quantity, **place), scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert found["n"] == 5 and found["mean"] == pytest.approx(values.mean())
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_tuned_learning_rates_are_told_for_every_cell():
    for (arm, length, size), choice in choose(WIDE, TABLE).items():
        found = row(f"tuned learning rate at batch size {size}", arm=arm, length=length, policy="tuned")
        assert found["mean"] == choice.lr and found["n"] == WIDE.tuning_seeds


def test_sharpness_and_examples_are_there_where_they_were_measured():
    quantity = "largest Hessian eigenvalue at equal training loss, batch size 64"
    values = runs(arm="mlp", policy="fixed", length=20, batch_size=64)["sharpness_at_target"]
    assert row(quantity, arm="mlp", policy="fixed", length=20)["mean"] == pytest.approx(values.mean())
    assert not WIDE.effects(TABLE.drop(columns="sharpness_at_target"))["quantity"].str.contains("Hessian").any()


def test_a_missing_run_is_left_out_and_counted():
    table = TABLE.copy()
    gone = runs(arm="mlp", policy="fixed", length=5, batch_size=64).index[0]
    table.loc[gone, "test_accuracy"], table.loc[gone, "diverged"] = np.nan, True
    place = {"arm": "mlp", "policy": "fixed", "length": 5, "effects": WIDE.effects(table)}
    assert row("test accuracy at batch size 64 (%)", **place)["n"] == 4
    assert row("test accuracy at batch size 16 (%)", **place)["n"] == 5
    assert row("change, smallest to largest batch (points)", **place)["n"] == 4
