"""A real run of a tiny design, from the trials to the files."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.probes import load_result
from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.tuning import choose
from mlptheory.probes.result import EFFECT_COLUMNS
from tests.probes.augmentation.conftest import PROBE, TINY, UNTUNED, judged, plant, quiet


def test_every_trial_has_a_row_with_its_outcomes(tiny_result):
    table = tiny_result.table
    assert len(table) == len(TINY.trials()) + len(TINY.follow_up(None)) and not table["diverged"].any()
    assert table["test_accuracy"].between(0, 1).all() and set(table["test_examples"]) == {600}
    assert (table["train_examples"] == table["size"]).all()
    runs = table["role"] == "run"
    for name in ("flip_error_logits", "shift_error_features", "neighbor_accuracy", "neighbor_accuracy_pixels"):
        assert table.loc[runs, name].notna().all(), name
    mlps = runs & (table["learner"] == "mlp")
    for name in ("change_local_share", "change_local_share_gaussian", "initial_local_share", "change_ipr"):
        assert (table[name].notna() == mlps).all(), name
    plain = runs & (table["arm"] == "none") & (table["size"] == 40)
    for name in ("crop", "orthogonal"):
        assert (table[f"accuracy_under_{name}"].notna() == plain).all()
    assert table["accuracy_under_flip"].isna().all()
    assert np.allclose(table["gap"], 100 * (table["train_accuracy"] - table["test_accuracy"]))
    steps = table[table["role"] != "shuffled"].groupby("size")["steps"].unique().map(list)
    assert steps[20] == [4] and steps[40] == [8]
    assert set(table.loc[table["role"] == "shuffled", "steps"]) == {12}


def test_runs_are_at_the_rates_that_were_best_on_the_validation_set(tiny_result):
    table = tiny_result.table
    tuning = table[table["role"] == "tuning"]
    for (learner, arm), choice in choose(table).items():
        rows = tuning[(tuning["learner"] == learner) & (tuning["arm"] == arm)]
        best = rows["validation_accuracy"] == rows["validation_accuracy"].max()
        assert choice.lr in set(rows.loc[best, "lr"])
        runs = table[(table["role"] == "run") & (table["learner"] == learner) & (table["arm"] == arm)]
        assert set(runs["lr"]) == {choice.lr}


def test_a_result_read_back_says_the_same_and_is_drawn(tiny_result, tmp_path):
    files = tiny_result.save(tmp_path)
    again = load_result(tmp_path)
    assert again.to_plain() == tiny_result.to_plain() and again.probe == TINY
    with Image.open(files["figure.png"]) as image:
        assert image.size[0] > 1900
    page = files["report.html"].read_text()
    assert all(escape(verdict.claim) in page for verdict in tiny_result.verdicts)
    assert "Anagnostidis2023" in files["references.bib"].read_text()


def test_running_again_finds_everything_in_the_store(tiny_result, tiny_store):
    plan = TINY.plan(store=tiny_store, workers=1)
    assert plan.trials == plan.finished and plan.seconds == 0
    assert set(plan.power) == {claim["id"] for claim in plan.design["claims"]}
    again = TINY.run(store=tiny_store, workers=1, progress=False)
    assert again.table.equals(tiny_result.table) and again.verdicts == tiny_result.verdicts


def test_the_verdicts_are_those_of_the_table(tiny_result):
    assert tuple(judged(TINY, tiny_result.table).values()) == tiny_result.verdicts
    rows = json.loads(json.dumps(tiny_result.to_plain()))["table"]
    again = pd.DataFrame(rows["rows"], columns=[column["name"] for column in rows["columns"]])
    assert TINY.judge(again) == tiny_result.verdicts


def found(effects, quantity, arm, size=40, learner="mlp"):
    (row,) = effects[
        (effects["quantity"] == quantity)
        & (effects["arm"] == arm)
        & (effects["size"] == size)
        & (effects["learner"] == learner)
    ].to_dict("records")
    return row


def test_effects_are_those_of_the_table(tiny_result):
    table, effects = tiny_result.table, tiny_result.effects
    assert set(effects.columns) <= set(EFFECT_COLUMNS)
    assert not effects.duplicated(["learner", "arm", "size", "quantity"]).any()
    runs = table[(table["role"] == "run") & (table["learner"] == "mlp") & (table["size"] == 40)]
    none, crop = (runs[runs["arm"] == arm].sort_values("block") for arm in ("none", "crop"))
    lifts = 100 * (crop["test_accuracy"].to_numpy() - none["test_accuracy"].to_numpy())
    row = found(effects, "lift over no augmentation (points)", "crop")
    interval = scipy_stats.ttest_1samp(lifts, 0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((lifts.mean(), interval.low, interval.high))
    ratio = crop["train_loss"].to_numpy() / none["train_loss"].to_numpy()
    assert found(effects, "diversity: training loss over that without", "crop")["mean"] == pytest.approx(ratio.mean())
    lost = 100 * (none["accuracy_under_crop"] - none["test_accuracy"]).mean()
    affinity = "affinity: accuracy on test images under crop less clean (points)"
    assert found(effects, affinity, "none")["mean"] == pytest.approx(lost)
    error = 100 * crop["shift_error_logits"].mean()
    assert found(effects, "invariance error of the logits, shifts (%)", "crop")["mean"] == pytest.approx(error)


def test_real_extra_data_stand_beside_what_augmentation_is_worth():
    table = quiet(PROBE, lift=3.0, rise=12.0, bend=1.0)
    effects = PROBE.effects(table)
    gain = found(effects, "gain by real data, up to 40 examples (points)", "none", size=20)
    assert gain["mean"] == pytest.approx(24, abs=0.1)
    # A quarter of what the next size gives, on a line over the logarithm of the size.
    worth = "worth in examples, v(n); no bound where the reference ends"
    row = found(effects, worth, PROBE.full, size=20)
    assert row["mean"] == pytest.approx(20 * (2**0.25 - 1), abs=0.05)
    assert row["low"] <= row["mean"] <= row["high"]
    beyond = found(effects, worth, PROBE.full, size=80)
    assert math.isnan(beyond["mean"]) and beyond["low"] == pytest.approx(0) and beyond["high"] == math.inf


@pytest.mark.parametrize("size", [20, 80])
def test_what_is_missing_of_the_reference_leaves_no_set(size):
    table = quiet(PROBE, lift=3.0)
    one = (table["role"] == "run") & (table["learner"] == "mlp") & (table["arm"] == "none") & (table["block"] == 1)
    table.loc[one & (table["size"] == size), "test_accuracy"] = np.nan
    row = found(PROBE.effects(table), "worth in examples, v(n); no bound where the reference ends", PROBE.full, size=20)
    assert (row["n"], row["runs"]) == (4, 5) and math.isfinite(row["mean"])
    assert math.isnan(row["low"]) and math.isnan(row["high"])


def test_errors_that_are_all_missing_leave_their_panel_empty():
    table = quiet(PROBE).assign(flip_error_logits=np.nan)
    figure = PROBE.draw(dataclasses.make_dataclass("Shown", ["table"])(table))
    assert all(len(line.get_xdata()) == 0 for line in figure.axes[2].get_lines())


@pytest.mark.parametrize("diverged", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("probe", [PROBE, UNTUNED], ids=["tuned", "untuned"])
def test_figure_and_effects_are_made_of_whatever_is_there(tiny_result, probe, diverged):
    table = probe.simulate(plant(diverged=diverged), np.random.default_rng(0))
    figure = probe.draw(dataclasses.replace(tiny_result, probe=probe, table=table))
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    effects = probe.effects(table)
    assert len(effects) and (effects["n"] <= effects["runs"]).all()


def test_the_figure_shows_the_means_and_where_nets_are_compared():
    table = quiet(PROBE, lift=3.0)
    figure = PROBE.draw(dataclasses.make_dataclass("Shown", ["table"])(table))
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    cells = Cells(PROBE, table)
    assert lines["MLP, none"].get_ydata() == pytest.approx(100 * cells.curve("none").mean(axis=0))
    middle = (cells.accuracy(PROBE.full, size=20).mean() + cells.accuracy("none").mean()) / 2
    drawn = [line for line in figure.axes[2].get_lines() if line.get_linestyle() == ":"]
    assert drawn[0].get_xdata()[0] == pytest.approx(middle)


def test_power_is_told_with_and_without_a_pilot(tiny_result):
    probe = dataclasses.replace(TINY, seeds=4)
    assert all("without a pilot" in text for text in probe.power(None).values())
    told = probe.power(tiny_result)
    assert set(told) == {claim.id for claim in probe.claims()} and "pilot's spread" in told["lifts-mlp"]
    assert all("too few" in text for text in dataclasses.replace(TINY, seeds=2).power(None).values())


def test_a_pilot_of_another_probe_is_refused(tiny_result):
    class Other:
        name = "other"

    with pytest.raises(InputError, match=r"pilot: expected a result of augmentation, found one of other"):
        TINY.power(dataclasses.replace(tiny_result, probe=Other()))
