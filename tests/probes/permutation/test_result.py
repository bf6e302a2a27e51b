"""A real run of a tiny design, from the trials to the files."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image

from mlptheory.base import InputError
from mlptheory.data import pixel_permutation
from mlptheory.probes import load_result
from mlptheory.probes.plan import TIMED_STEPS
from mlptheory.probes.result import EFFECT_COLUMNS
from mlptheory.training import Recipe, evaluate, prepare_examples, train, train_permuted
from mlptheory.trials import open_store
from mlptheory.trials.registered import measures
from tests.probes.permutation.conftest import PROBE, TINY, judged, made_up_bank, plant


def test_every_trial_has_a_row_with_its_outcome(tiny_result):
    table = tiny_result.table
    assert len(table) == len(TINY.trials()) and not table["diverged"].any()
    assert table["test_accuracy"].between(0, 1).all()
    exact, by_step = table["role"] == "exact", table["role"] == "one-step"
    lion = table["optimizer"] == "lion"
    assert (table["permuted_weight_deviation"].notna() == (exact | by_step)).all()
    assert (table["wrong_weight_deviation"].notna() == exact).all()
    assert (table["permuted_sign_flips"].notna() == ((exact & lion) | by_step)).all()
    assert (table["wrong_sign_flips"].notna() == (exact & lion)).all()
    assert (table["chance_accuracy"].notna() == (table["role"] == "shuffled")).all()
    assert set(table.loc[exact | by_step, "steps"]) == {8}
    assert set(table.loc[~(exact | by_step), "steps"]) == {4}
    assert set(table["train_examples"]) == {40}


def test_the_exact_part_holds_in_the_record(tiny_result):
    exact = tiny_result.table[tiny_result.table["role"] == "exact"]
    assert exact["permuted_weight_deviation"].max() <= 1e-9 and exact["permuted_logit_deviation"].max() <= 1e-9
    assert exact["wrong_weight_deviation"].min() > 1e-4
    assert exact["permuted_sign_flips"].sum() == 0


def test_a_row_holds_what_the_function_returns(tiny_result, tiny_store):
    table = tiny_result.table
    row = table[(table["role"] == "exact") & (table["optimizer"] == "lion")].iloc[1]
    recipe = Recipe.from_plain(open_store(tiny_store).get(row["digest"]).trial["recipe"])
    block = int(row["block"])
    found = train_permuted(recipe, permutation=block, wrong=block + 1_000_000, device="cpu")
    assert row["permuted_logit_deviation"] == found.transported.logits.max()
    assert row["wrong_weight_deviation"] == found.wrong.weights.max()
    assert row["wrong_sign_flips"] == found.wrong.flips.sum()
    assert row["sign_updates"] == 8 * found.wrong.coordinates


def test_permuted_images_are_tested_permuted_alike(tiny_result, tiny_store):
    """A net on permuted images, trained again, has its loss on test images that are permuted by hand."""
    runs = tiny_result.table.query("role == 'run' and block == 1 and images.str.contains('permute')")
    assert len(runs) == 4
    for row in runs.to_dict("records"):
        recipe = Recipe.from_plain(open_store(tiny_store).get(row["digest"]).trial["recipe"])
        trained, examples = train(recipe, device="cpu"), prepare_examples(recipe.data, recipe.seed)
        how = {"normalization": examples.normalization, "precision": trained.precision}
        images, losses = examples.test.images, []
        for order in (pixel_permutation(1, (1, 8, 8)), torch.arange(64)):
            seen = dataclasses.replace(examples.test, images=images.flatten(1)[:, order].view_as(images))
            losses.append(evaluate(trained.model, seen, **how).loss)
        gaps = [abs(row["test_loss"] - loss) / row["test_loss"] for loss in losses]
        assert gaps[0] < 1e-5 and gaps[1] > 1e-4


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


def test_a_plan_prices_a_few_steps_of_what_trains_many(monkeypatch, tmp_path):
    entries = dict(measures._entries)
    del entries["permuted_training"]
    monkeypatch.setattr(measures, "_entries", entries)
    priced = []

    @measures.register("permuted_training")
    def noted(context, **parameters):
        priced.append(parameters)
        return {}

    long = dataclasses.replace(TINY, exact_steps=10_000, control=False)
    long.plan(store=tmp_path, workers=1)
    assert {each["steps"] for each in priced} == {TIMED_STEPS}
    assert {(each["equalized"], each["wrong"]) for each in priced} == {(True, False), (False, True)}
    priced.clear()
    dataclasses.replace(TINY, control=False).plan(store=tmp_path, workers=1)
    assert {each["steps"] for each in priced} == {8}


def test_effects_are_documented_and_those_of_the_table(tiny_result):
    effects = tiny_result.effects
    assert set(effects.columns) <= set(EFFECT_COLUMNS)
    assert not effects.duplicated(["arm", "images", "model", "optimizer", "quantity"]).any()
    runs = (
        tiny_result.table[tiny_result.table["role"] == "run"]
        .set_index(["arm", "images", "block"])["test_accuracy"]
        .sort_index()
    )
    rows = effects.set_index(["arm", "images", "quantity"])["mean"].sort_index()
    assert rows["mlp", "permuted", "test accuracy (%)"] == pytest.approx(100 * runs["mlp", "permuted"].mean())
    fall = 100 * (runs["baseline", "plain"] - runs["baseline", "permuted"]).mean()
    assert rows["baseline", "", "fall by permutation, no augmentation (points)"] == pytest.approx(fall)
    less = fall - 100 * (runs["mlp", "plain"] - runs["mlp", "permuted"]).mean()
    assert rows["", "", "baseline's fall less the MLP's (points)"] == pytest.approx(less)


def test_effects_tell_flips_per_million_updates(tiny_result):
    table, effects = tiny_result.table, tiny_result.effects
    lion = table[(table["role"] == "exact") & (table["optimizer"] == "lion") & (table["model"] == "S-1/Wi-6")]
    row = effects[effects["quantity"].str.contains("wrong permutation .per million") & (effects["model"] == "S-1/Wi-6")]
    expected = 1e6 * (lion["wrong_sign_flips"] / lion["sign_updates"]).mean()
    assert row["mean"].item() == pytest.approx(expected) and expected > 1e4


@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("diverged", [0.0, 0.2, 1.0])
def test_a_figure_is_drawn_of_whatever_is_there(tiny_result, diverged, augmented):
    probe = dataclasses.replace(PROBE, baseline_augmented=augmented)
    table = probe.simulate(plant(diverged=diverged), np.random.default_rng(0))
    figure = probe.draw(dataclasses.replace(tiny_result, probe=probe, table=table))
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert titles == ["accuracy", "differences", "in lockstep"]


def test_the_figure_shows_the_means(tiny_result):
    figure, table = tiny_result.figure(), tiny_result.table
    runs = table[table["role"] == "run"].groupby(["arm", "images"])["test_accuracy"].mean()
    points = [
        line.get_ydata()[0] for line in figure.axes[0].get_lines() if line.get_marker() == "o" and len(line.get_ydata())
    ]
    expected = [runs["mlp", images] for images in TINY.treatments("mlp")]
    expected += [runs["baseline", images] for images in TINY.treatments("baseline")]
    assert points == pytest.approx([100 * each for each in expected])


def test_power_is_told_with_and_without_a_pilot(tiny_result):
    probe = dataclasses.replace(TINY, seeds=4)
    told = probe.power(None)
    assert set(told) == {claim.id for claim in probe.claims()}
    assert all("without a pilot" in text for text in told.values())
    assert "with 3 seeds" in told["same-trajectory"] and "with 4 seeds" in told["mlp-equivalent"]
    assert all("too few" in text for text in dataclasses.replace(TINY, seeds=2, exact_seeds=2).power(None).values())


def test_a_pilot_says_how_many_seeds_equivalence_needs(tiny_result):
    pilot = PROBE.simulate(plant(), np.random.default_rng(0), made_up_bank(spread=1.0))
    told = PROBE.power(dataclasses.replace(tiny_result, probe=PROBE, table=pilot))
    assert "in the pilot, for which an effect of 0 needs" in told["mlp-equivalent"]
    difference = 100 * pilot[pilot["arm"] == "mlp"].query("role == 'run'").pivot(
        index="block", columns="images", values="test_accuracy"
    )
    spread = (difference["plain"] - difference["permuted"]).std()
    assert f"({spread:.2g} in the pilot" in told["mlp-equivalent"]


def test_a_pilot_of_another_probe_is_refused(tiny_result):
    class Other:
        name = "other"

    with pytest.raises(InputError, match=r"pilot: expected a result of permutation, found one of other"):
        TINY.power(dataclasses.replace(tiny_result, probe=Other()))


def test_the_verdicts_are_those_of_the_table(tiny_result):
    assert tuple(judged(TINY, tiny_result.table).values()) == tiny_result.verdicts
    rows = json.loads(json.dumps(tiny_result.to_plain()))["table"]
    again = pd.DataFrame(rows["rows"], columns=[column["name"] for column in rows["columns"]])
    assert TINY.judge(again) == tiny_result.verdicts
