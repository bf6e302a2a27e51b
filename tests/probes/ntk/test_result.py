"""A real run of a tiny design, from the trials to the files."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image

from mlptheory.base import InputError
from mlptheory.probes import load_result
from mlptheory.probes.result import EFFECT_COLUMNS
from tests.probes.ntk.conftest import PROBE, TINY, judged, plant

TITLES = [
    "initialization",
    "training",
    "velocity",
    "labels",
    "what is predicted",
    "learning curve",
    "coordinate check",
    "output scale",
]


def test_every_trial_has_a_row_with_its_outcome(tiny_result):
    table = tiny_result.table
    assert len(table) == len(TINY.trials()) and not table["diverged"].any()
    center = table[table["role"] == "center"]
    missing = [name for name in center if center[name].isna().any()]
    only_elsewhere = {"coordinate_", "infinite_kernel", "nngp"}
    assert all(any(name.startswith(each) for each in only_elsewhere) for name in missing)
    assert table[table["role"] == "infinite"]["infinite_kernel_accuracy"].between(0.1, 1).all()
    assert table.groupby("role")["steps"].unique().map(list)["coordinates"] == [2]
    assert table.groupby("role")["train_examples"].unique().map(list)["size"] == [64]


def test_nets_of_a_seed_and_width_share_their_initial_kernel(tiny_result):
    table = tiny_result.table
    same = table[table["role"].isin(["center", "rate", "optimizer"])]
    assert (same.groupby("block")["kernel_deviation"].agg(np.ptp) < 1e-9).all()
    assert same["kernel_deviation"].round(9).nunique() == 3


def test_a_result_read_back_says_the_same_and_is_drawn(tiny_result, tmp_path):
    files = tiny_result.save(tmp_path)
    again = load_result(tmp_path)
    assert again.to_plain() == tiny_result.to_plain() and again.probe == TINY
    with Image.open(files["figure.png"]) as image:
        assert image.size[0] > 1900
    page = files["report.html"].read_text()
    assert all(escape(verdict.claim) in page for verdict in tiny_result.verdicts)
    assert "Fort2020" in files["references.bib"].read_text()


def test_running_again_finds_everything_in_the_store(tiny_result, tiny_store):
    plan = TINY.plan(store=tiny_store, workers=1)
    assert plan.trials == plan.finished == len(TINY.trials()) and plan.seconds == 0
    assert set(plan.power) == {claim["id"] for claim in plan.design["claims"]}
    again = TINY.run(store=tiny_store, workers=1, progress=False)
    assert again.table.equals(tiny_result.table) and again.verdicts == tiny_result.verdicts


def test_effects_are_documented_and_those_of_the_table(tiny_result):
    effects, table = tiny_result.effects, tiny_result.table
    assert set(effects.columns) <= set(EFFECT_COLUMNS)
    assert not effects.duplicated(["cell", "quantity"]).any()
    found = {(row.cell, row.quantity): row for row in effects.itertuples()}
    center = table[table["role"] == "center"].set_index("block")
    row = found["center", "net accuracy (%)"]
    assert row.mean == pytest.approx(100 * center["net_accuracy"].mean()) and (row.n, row.runs) == (3, 3)
    lazy = table[(table["role"] == "scale") & (table["output_scale"] == 8)].set_index("block")
    ratio = np.log2(lazy["kernel_change"] / center["kernel_change"]).mean()
    assert found["output scale 8", "log2 of kernel change, over the center's"].mean == pytest.approx(ratio)
    over_center = effects[effects["quantity"].str.contains("the center's")]["cell"]
    assert not over_center.str.contains("NTK").any() and over_center.str.contains("μP").any()
    nets = table[table["role"] == "ntk"]
    slopes = [
        np.polyfit(np.log(run["width"]), np.log(run["kernel_change"].astype(float)), 1)[0]
        for _, run in nets.groupby("block")
    ]
    assert found["ntk over widths", "exponent of width of kernel change"].mean == pytest.approx(np.mean(slopes))
    infinite = table[(table["role"] == "infinite") & (table["parametrization"] == "ntk") & (table["n"] == 96)]
    lead = 100 * (infinite["nngp_accuracy"].iloc[0] - center["net_accuracy"].mean())
    assert found["center", "accuracy of the NNGP, ntk, less the net's (%)"].mean == pytest.approx(lead)


@pytest.mark.parametrize("outcomes", ["all", "a fifth diverged", "none", "standing still"])
def test_a_figure_is_drawn_of_whatever_is_there(tiny_result, outcomes):
    diverged = {"a fifth diverged": 0.2, "none": 1.0}.get(outcomes, 0.0)
    table = PROBE.simulate(plant(diverged=diverged), np.random.default_rng(0))
    if outcomes == "standing still":
        table["kernel_distance"] = table["kernel_change"] = 0.0
    figure = PROBE.draw(dataclasses.replace(tiny_result, probe=PROBE, table=table))
    figure.canvas.draw()
    assert isinstance(figure, Figure)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == TITLES


def test_the_figure_shows_the_means(tiny_result):
    table, figure = tiny_result.table, tiny_result.figure()
    lines = {line.get_label(): line for line in figure.axes[1].get_lines()}
    nets = np.log2(table[table["role"] == "ntk"].groupby("width")["kernel_change"].apply(list).map(np.array).tolist())
    assert lines["NTK"].get_ydata() == pytest.approx(np.exp2(nets.mean(axis=1)))
    history = tiny_result.history
    place = table.index[(table["role"] == "center") & (table["block"] == 1)][0]
    seen = history[(history["trial"] == place) & (history["quantity"] == "kernel_velocity")]
    assert table.loc[place, "kernel_velocity"] == seen["value"].iloc[-1] and len(seen) == 2
    without = dataclasses.replace(TINY, control=False)
    drawn = without.draw(dataclasses.replace(tiny_result, probe=without))
    assert not drawn.axes[7].get_lines()


def test_power_is_told_with_and_without_a_pilot(tiny_result):
    probe = dataclasses.replace(TINY, seeds=4)
    assert all("without a pilot" in text for text in probe.power(None).values())
    told = probe.power(tiny_result)
    assert set(told) == {claim.id for claim in probe.claims()} and "pilot's spread" in told["fast-then-slow"]
    assert all("too few" in text for text in dataclasses.replace(TINY, seeds=2).power(None).values())


def test_a_pilot_of_another_probe_is_refused(tiny_result):
    class Other:
        name = "other"

    with pytest.raises(InputError, match=r"pilot: expected a result of ntk, found one of other"):
        TINY.power(dataclasses.replace(tiny_result, probe=Other()))


def test_the_verdicts_are_those_of_the_table(tiny_result):
    assert tuple(judged(TINY, tiny_result.table).values()) == tiny_result.verdicts
    rows = json.loads(json.dumps(tiny_result.to_plain()))["table"]
    again = pd.DataFrame(rows["rows"], columns=[column["name"] for column in rows["columns"]])
    assert TINY.judge(again) == tiny_result.verdicts
