"""Every run of the design once, each departing from the center in nothing but what it is named after."""

import dataclasses
import itertools
import math

import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.training import planned_work
from tests.probes.locality.conftest import PROBE

TRIALS = PROBE.trials()
ROWS = pd.DataFrame([dict(trial.labels) for trial in TRIALS])


def of(role):
    return [trial for trial in TRIALS if dict(trial.labels)["role"] == role]


def place(trial):
    label = dict(trial.labels)
    return label["arm"], label["block"]


CENTER = {place(trial): trial for trial in of("center")}
CELLS = {
    "center": [{}],
    "size": [{"n": 75}, {"n": 300}],
    "steps": [{"n": 75, "amount": 20 * math.ceil(1197 / 32), "unit": "steps"}],
    "epochs": [{"amount": 60}],
    "decay": [{"weight_decay": 1.0}],
    "optimizer": [{"optimizer": "adamw", "lr": 0.003}, {"optimizer": "sgd", "lr": 0.05}],
}


def departed(recipe, n=1197, amount=20, unit="epochs", weight_decay=0.0, optimizer="lion", lr=8e-4):
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, n=n),
        budget=dataclasses.replace(recipe.budget, amount=amount, unit=unit),
        optimizer=dataclasses.replace(recipe.optimizer, name=optimizer, lr=lr, weight_decay=weight_decay),
    )


@pytest.mark.parametrize("role", CELLS)
def test_a_cell_departs_from_the_center_in_its_factor_alone(role):
    found = [(place(trial), trial.recipe) for trial in of(role)]
    expected = [
        (where, departed(CENTER[where].recipe, **departure))
        for departure in CELLS[role]
        for where in itertools.product(("augmented", "plain"), range(5))
    ]
    assert found == expected


def test_a_block_is_a_seed_and_arms_differ_in_augmentation_alone():
    for (arm, block), trial in CENTER.items():
        assert trial.recipe.seed == block
        assert trial.recipe.augmentation == (PROBE.augmentation if arm == "augmented" else Augmentation())
        other = CENTER["plain", block].recipe
        assert dataclasses.replace(trial.recipe, augmentation=Augmentation()) == other
        assert trial.recipe.data.name == "digits" and not trial.parents


def test_equal_steps_are_the_steps_of_the_center():
    steps = {role: {planned_work(trial.recipe).steps for trial in of(role)} for role in ("center", "steps")}
    assert steps["center"] == steps["steps"] == {760}
    assert {dict(trial.labels)["epochs"] for trial in of("steps")} == {253}


def test_filters_are_measured_on_the_plane_and_in_the_control_on_the_torus():
    probe = dataclasses.replace(PROBE, window=3)
    for trial in probe.trials():
        (measurement,) = trial.measures
        control = dict(trial.labels)["role"] == "control"
        expected = {"window": None, "toroidal": True} if control else {"window": 3, "toroidal": False}
        assert measurement.name == "first_layer" and dict(measurement.parameters) == expected


def test_the_control_is_one_net_on_two_datasets():
    trials = of("control")
    assert [(trial.recipe.data.name, trial.recipe.seed) for trial in trials] == [
        (name, seed) for name in ("edges", "edges-gaussian") for seed in range(5)
    ]
    same = {
        dataclasses.replace(trial.recipe, seed=0, data=dataclasses.replace(trial.recipe.data, name="edges"))
        for trial in trials
    }
    assert len(same) == 1
    recipe = same.pop()
    assert (recipe.model.name, recipe.model.variant, recipe.model.activation) == ("S-2/Wi-64", "authors", "relu")
    assert recipe.precision == "float32" and recipe.augmentation == Augmentation()
    double = dataclasses.replace(PROBE, precision="float64").trials()
    assert {trial.recipe.precision for trial in double} == {"float64"}


def test_no_control_and_no_other_optimizers_where_none_are_asked_for():
    probe = dataclasses.replace(PROBE, control=False, other_optimizers=(), other_lrs=())
    roles = {dict(trial.labels)["role"] for trial in probe.trials()}
    assert roles == {"center", "size", "steps", "epochs", "decay"}


def test_a_replication_with_other_seeds_shares_no_run_with_the_first():
    other = dataclasses.replace(PROBE, seeds=tuple(range(5, 10)))
    assert not {trial.unlabeled() for trial in TRIALS} & {trial.unlabeled() for trial in other.trials()}


def test_the_order_in_which_seeds_and_sizes_are_listed_changes_no_run():
    turned = dataclasses.replace(PROBE, seeds=(4, 2, 0, 1, 3), sizes=(1197, 300, 75))
    assert set(turned.trials()) == set(TRIALS)


def test_a_bank_is_the_centers_augmented_arm_with_seeds_of_its_own():
    trials = PROBE.bank_trials(7)
    center = CENTER["augmented", 0].recipe
    assert {dataclasses.replace(trial.recipe, seed=0) for trial in trials} == {center}
    assert len({trial.recipe.seed for trial in trials}) == 7
    assert not {trial.recipe.seed for trial in trials} & {trial.recipe.seed for trial in TRIALS}
    assert trials[0].measures == CENTER["augmented", 0].measures


def test_settings_reach_every_run_of_the_design():
    probe = dataclasses.replace(PROBE, image_size=16, precision="float64", label_smoothing=0.1, batch_size=8)
    for trial in probe.trials():
        if dict(trial.labels)["role"] != "control":
            recipe = trial.recipe
            assert (recipe.data.image_size, recipe.precision, recipe.label_smoothing) == (16, "float64", 0.1)
            assert recipe.budget.batch_size == 8 and recipe.model.name == "B-1/Wi-64"


def test_labels_are_of_the_run_itself_and_tell_cells_apart():
    assert not ROWS.duplicated(["role", "arm", "dataset", "n", "optimizer", "block"]).any()
    for trial in TRIALS:
        label, recipe = dict(trial.labels), trial.recipe
        assert (label["dataset"], label["seed"], label["model"]) == (recipe.data.name, recipe.seed, recipe.model.name)
        assert (label["optimizer"], label["lr"]) == (recipe.optimizer.name, recipe.optimizer.lr)
        assert label["weight_decay"] == recipe.optimizer.weight_decay and label["n"] == (recipe.data.n or 0)
