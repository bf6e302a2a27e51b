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
from mlptheory.trials.registered import measures
from tests.probes.transfer.conftest import PROBE, TINY, judged, plant


def test_every_trial_has_a_row_with_its_outcome(tiny_result):
    table = tiny_result.table
    assert len(table) == len(TINY.trials()) and not table["diverged"].any()
    assert table["test_accuracy"].between(0, 1).all()
    views = (table["role"] == "run") & (table["stage"] == "finetuning")
    assert (table["tta_accuracy"].notna() == views).all()
    assert (table["chance_accuracy"].notna() == (table["role"] == "shuffled-target")).all()
    steps = table.groupby("stage")["steps"].unique().map(sorted)
    assert steps["finetuning"] == steps["scratch"] == steps["scratch-as-finetuning"] == steps["probing"] == [4]
    assert steps["pretraining"] == [1, 2, 4, 8]
    assert set(table.loc[table["stage"] == "pretraining", "train_examples"]) == {64}
    assert set(table.loc[table["stage"] != "pretraining", "train_examples"]) == {20}


def test_pretraining_reaches_what_becomes_of_it(tiny_result):
    """Fine-tuning from a body and training from scratch as fine-tuning share all but the start."""
    table = tiny_result.table
    runs = table[table["role"] == "run"]
    finetuned = runs[runs["stage"] == "finetuning"].groupby("block")["test_loss"]
    scratch = runs[runs["stage"] == "scratch-as-finetuning"].set_index("block")["test_loss"]
    assert (finetuned.nunique() == 8).all()
    assert all(scratch[block] not in set(losses) for block, losses in finetuned)


def test_a_result_read_back_says_the_same_and_is_drawn(tiny_result, tmp_path):
    files = tiny_result.save(tmp_path)
    again = load_result(tmp_path)
    assert again.to_plain() == tiny_result.to_plain() and again.probe == TINY
    with Image.open(files["figure.png"]) as image:
        assert image.size[0] > 1900
    page = files["report.html"].read_text()
    assert all(escape(verdict.claim) in page for verdict in tiny_result.verdicts)
    assert "Bachmann2023" in files["references.bib"].read_text()


def test_running_again_finds_everything_in_the_store(tiny_result, tiny_store):
    plan = TINY.plan(store=tiny_store, workers=1)
    assert plan.trials == plan.finished == len(TINY.trials()) and plan.seconds == 0
    assert set(plan.power) == {claim["id"] for claim in plan.design["claims"]}
    again = TINY.run(store=tiny_store, workers=1, progress=False)
    assert again.table.equals(tiny_result.table) and again.verdicts == tiny_result.verdicts


def test_a_plan_prices_test_time_augmentation_as_the_design_has_it(monkeypatch, tmp_path):
    entries = dict(measures._entries)
    del entries["test_time_augmentation"]
    monkeypatch.setattr(measures, "_entries", entries)
    priced = []

    @measures.register("test_time_augmentation")
    def noted(context, **views):
        priced.append((views, context.recipe.precision))
        return {}

    dataclasses.replace(TINY, precision="auto", control=False).plan(store=tmp_path, workers=1)
    assert priced and all(views == {"views": 2, "crop_scale": (0.6, 1.0), "flip": False} for views, _ in priced)
    assert {precision for _, precision in priced} <= {"bfloat16", "float32"}


def test_effects_are_documented_and_those_of_the_table(tiny_result):
    effects = tiny_result.effects
    assert set(effects.columns) <= set(EFFECT_COLUMNS)
    assert not effects.duplicated(["arm", "stage", "length", "quantity"]).any()
    table = tiny_result.table
    chosen = (table["role"] == "run") & (table["stage"] == "finetuning") & (table["arm"] == "plain")
    values = 100 * table.loc[chosen & (table["length"] == 2) & (table["batch_size"] == 16), "tta_accuracy"]
    place = (effects["arm"] == "plain") & (effects["stage"] == "finetuning, TTA") & (effects["length"] == 2)
    row = effects[place & (effects["quantity"] == "test accuracy on the target at batch size 16 (%)")].iloc[0]
    assert row["mean"] == pytest.approx(values.mean()) and row["n"] == 3
    scratch = 100 * table.loc[table["stage"] == "scratch", "test_accuracy"]
    assert effects.loc[effects["stage"] == "scratch", "mean"].item() == pytest.approx(scratch.mean())


@pytest.mark.parametrize("diverged", [0.0, 0.2, 1.0])
def test_a_figure_is_drawn_of_whatever_is_there(tiny_result, diverged):
    table = PROBE.simulate(plant(diverged=diverged), np.random.default_rng(0))
    figure = PROBE.draw(dataclasses.replace(tiny_result, probe=PROBE, table=table))
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert titles == ["linear probe", "fine-tuned", "means"]


def test_the_figure_shows_the_means(tiny_result):
    figure = tiny_result.figure()
    table = tiny_result.table
    chosen = (table["role"] == "run") & (table["stage"] == "probing") & (table["arm"] == "augmented")
    runs = table[chosen & (table["length"] == 2)]
    expected = 100 * runs.groupby("batch_size")["test_accuracy"].mean().to_numpy()
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["augmented, 2 epochs"].get_ydata() == pytest.approx(expected)


def test_power_is_told_with_and_without_a_pilot(tiny_result):
    probe = dataclasses.replace(TINY, seeds=4)
    assert all("without a pilot" in text for text in probe.power(None).values())
    told = probe.power(tiny_result)
    assert set(told) == {claim.id for claim in probe.claims()} and "pilot's spread" in told["tta-helps"]
    assert all("too few" in text for text in dataclasses.replace(TINY, seeds=2).power(None).values())


def test_a_pilot_of_another_probe_is_refused(tiny_result):
    class Other:
        name = "other"

    with pytest.raises(InputError, match=r"pilot: expected a result of transfer, found one of other"):
        TINY.power(dataclasses.replace(tiny_result, probe=Other()))


def test_the_verdicts_are_those_of_the_table(tiny_result):
    assert tuple(judged(TINY, tiny_result.table).values()) == tiny_result.verdicts
    rows = json.loads(json.dumps(tiny_result.to_plain()))["table"]
    again = pd.DataFrame(rows["rows"], columns=[column["name"] for column in rows["columns"]])
    assert TINY.judge(again) == tiny_result.verdicts
