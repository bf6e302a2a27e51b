"""Every run of the design once, each departing from the center in nothing but what it is named after."""

import dataclasses

import pandas as pd
import pytest

from tests.probes.ntk.conftest import PROBE

TRIALS = PROBE.trials()
ROWS = pd.DataFrame([dict(trial.labels) for trial in TRIALS])
BASE = 5e-5 * 1024 / 64


def of(role, parametrization="standard"):
    return [
        trial
        for trial in TRIALS
        if (dict(trial.labels)["role"], dict(trial.labels)["parametrization"]) == (role, parametrization)
    ]


CENTER = {trial.recipe.seed: trial.recipe for trial in of("center")}


def departed(recipe, *, width=64, n=600, lr=BASE, optimizer="lion", parametrization="standard", scale=1.0, steps=None,
             shuffled=False):  # fmt: skip
    budget = {"amount": 12, "unit": "epochs"} if steps is None else {"amount": steps, "unit": "steps"}
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, n=n, shuffle_labels=shuffled),
        model=dataclasses.replace(
            recipe.model, name=f"B-1/Wi-{width}", parametrization=parametrization, output_scale=scale
        ),
        optimizer=dataclasses.replace(recipe.optimizer, name=optimizer, lr=lr),
        budget=dataclasses.replace(recipe.budget, **budget),
    )


@pytest.mark.parametrize(
    ("role", "parametrization", "departures"),
    [
        ("center", "standard", [{}]),
        ("width", "standard", [{"width": 16, "lr": 4 * BASE}, {"width": 32, "lr": 2 * BASE}]),
        ("size", "standard", [{"n": 150}]),
        ("rate", "standard", [{"lr": 0.25 * BASE}, {"lr": 4 * BASE}]),
        ("optimizer", "standard", [{"optimizer": "adamw", "lr": 0.002}, {"optimizer": "sgd", "lr": 0.05}]),
        ("ntk", "ntk", [{"width": w, "optimizer": "sgd", "lr": 0.5, "parametrization": "ntk"} for w in (16, 32, 64)]),
        ("mup", "mup", [{"lr": 4 * BASE, "parametrization": "mup"}]),
        ("coordinates", "standard", [{"width": w, "lr": 4 * BASE, "steps": 5} for w in (16, 32, 64)]),
        (
            "coordinates",
            "mup",
            [{"width": w, "lr": 4 * BASE, "steps": 5, "parametrization": "mup"} for w in (16, 32, 64)],
        ),
        ("scale", "standard", [{"scale": 0.25, "lr": 4 * BASE}, {"scale": 8.0, "lr": BASE / 8}]),
        ("shuffled", "standard", [{"shuffled": True}]),
    ],
)
def test_a_cell_departs_from_the_center_in_its_factor_alone(role, parametrization, departures):
    found = [(trial.recipe.seed, trial.recipe) for trial in of(role, parametrization)]
    expected = [(seed, departed(CENTER[seed], **departure)) for departure in departures for seed in range(5)]
    assert found == expected


def test_the_base_width_is_the_smallest():
    assert {trial.recipe.model.base_width for trial in TRIALS} == {16}


def test_infinite_width_has_one_run_of_a_step_for_each_size_and_limit():
    found = ROWS[ROWS["role"] == "infinite"]
    assert sorted(zip(found["parametrization"], found["n"], strict=True)) == [
        ("ntk", 150),
        ("ntk", 600),
        ("standard", 150),
        ("standard", 600),
    ]
    assert {trial.recipe.budget.amount for trial in of("infinite") + of("infinite", "ntk")} == {1}


def test_every_run_of_the_design_once():
    assert not ROWS.duplicated().any() and len(set(TRIALS)) == len(TRIALS)
    per_seed = ROWS[ROWS["role"] != "infinite"].groupby("block").size()
    assert set(per_seed) == {1 + 2 + 1 + 2 + 2 + 3 + 1 + 6 + 2 + 1}


def test_what_is_measured_where():
    measured = {dict(trial.labels)["role"]: [each.name for each in trial.measures] for trial in TRIALS}
    assert "linearized_training" in measured["center"] and measured["size"] == ["kernel_regression"]
    assert measured["coordinates"] == ["coordinates"] and measured["infinite"] == ["infinite_regression"]
    linear = [dict(t.labels)["width"] for t in of("ntk", "ntk") if len(t.measures) == 3]
    assert sorted(set(linear)) == [16, 64]
    assert [each.name for each in of("center")[0].observers] == ["evaluation", "weights", "kernel"]
    assert of("coordinates")[0].observers == ()


def test_the_bank_is_the_center_with_everything_measured_on_seeds_of_its_own():
    runs = PROBE.bank_trials(4)
    seeds = [trial.recipe.seed for trial in runs]
    assert len(set(seeds)) == 4 and min(seeds) >= 3_000_000
    assert {dataclasses.replace(trial.recipe, seed=0) for trial in runs} == {CENTER[0]}
    assert {each.name for each in runs[0].measures} >= {"coordinates", "kernel_regression", "tangent_kernel"}


def test_without_controls_there_are_none():
    roles = {dict(trial.labels)["role"] for trial in dataclasses.replace(PROBE, control=False).trials()}
    assert roles == set(ROWS["role"]) - {"scale", "shuffled"}
