"""A real run of a tiny design, from the trials to the files."""

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image

from mlptheory.base import InputError
from mlptheory.probes import load_result
from mlptheory.probes.result import EFFECT_COLUMNS
from tests.probes.sharpness.conftest import PROBE, TINY, judged, plant

OUTCOMES = {
    "edge": ["edge_hovering", "edge_highest", "edge_sharpness"],
    "flow": ["sharpening"],
    "batch": ["sharpness_at_target", "adaptive_sharpness_at_target", "gap_at_target", "rescaling_7", "function_change"],
}


def test_every_trial_has_a_row_with_the_outcome_of_its_part(tiny_result):
    table = tiny_result.table
    assert len(table) == len(TINY.trials()) and not table["diverged"].any()
    for role, names in OUTCOMES.items():
        assert table.loc[table["role"] == role, names].notna().all(axis=None)
        assert table.loc[table["role"] != role, names].isna().all(axis=None)


def test_hovering_is_that_of_the_history(tiny_result):
    ratios = tiny_result.history[tiny_result.history["quantity"] == "edge_ratio"]
    for trial in np.flatnonzero(tiny_result.table["role"] == "edge"):
        values = ratios.loc[ratios["trial"] == trial, "value"].to_numpy(dtype=float)
        assert len(values) == 6
        assert tiny_result.table["edge_hovering"][trial] == pytest.approx(values[4:].mean(), abs=1e-12)


def test_the_rescalings_are_exact(tiny_result):
    found = tiny_result.table[tiny_result.table["role"] == "batch"]
    assert (found["function_change"] < -12).all()


def test_a_result_read_back_says_the_same_and_is_drawn(tiny_result, tmp_path):
    files = tiny_result.save(tmp_path)
    again = load_result(tmp_path)
    assert again.to_plain() == tiny_result.to_plain() and again.probe == TINY
    with Image.open(files["figure.png"]) as image:
        assert image.size[0] > 1900
    page = files["report.html"].read_text()
    assert all(escape(verdict.claim) in page for verdict in tiny_result.verdicts)


def test_running_again_finds_everything_in_the_store(tiny_result, tiny_store):
    plan = TINY.plan(store=tiny_store, workers=1)
    assert plan.finished == plan.trials == len(TINY.trials())


def test_the_verdicts_are_those_of_the_table(tiny_result):
    assert tiny_result.verdicts == TINY.judge(tiny_result.table)


def test_effects_are_documented_and_those_of_the_table(tiny_result):
    effects = tiny_result.effects
    assert set(effects) <= set(EFFECT_COLUMNS) and not effects.duplicated(["arm", "cell", "quantity"]).any()
    table = tiny_result.table
    own = table[(table["role"] == "batch") & (table["batch_size"] == 8)]
    shown = effects[(effects["cell"] == "batch size 8") & (effects["quantity"] == "test error (%)")]
    assert shown["mean"].item() == pytest.approx(100 * own["test_error_at_target"].mean(), abs=1e-9)
    widths = effects[effects["cell"] == "widths"]["mean"].item()
    growth = table[(table["role"] == "flow") & (table["depth"] == 2)].groupby("width")["sharpening"].mean()
    assert widths == pytest.approx(growth[16] - growth[8], abs=1e-9)


@pytest.mark.parametrize("diverged", [0.0, 0.3])
def test_a_figure_is_drawn_of_whatever_is_there(tiny_result, diverged):
    from dataclasses import replace

    table = PROBE.simulate(plant(diverged=diverged), np.random.default_rng(0))
    result = replace(tiny_result, probe=PROBE, table=table, history=tiny_result.history.iloc[:0])
    assert isinstance(result.figure(), Figure)


def test_power_is_told_with_and_without_a_pilot(tiny_result):
    without, told = PROBE.power(None), PROBE.power(tiny_result)
    assert set(without) == set(told) == {claim.id for claim in PROBE.claims()}
    assert all("5 seeds" in text for text in without.values())


def test_a_pilot_of_another_probe_is_refused(tiny_result):
    from dataclasses import replace

    from mlptheory.probes import Locality

    with pytest.raises(InputError, match="expected a result of sharpness, found one of locality"):
        PROBE.power(replace(tiny_result, probe=Locality()))


def test_judged_by_name(tiny_result):
    assert set(judged(TINY, tiny_result.table)) == {claim.id for claim in TINY.claims()}
