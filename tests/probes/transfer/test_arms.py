"""Every run of the design once, and each differing from its like in nothing but what is compared."""

import dataclasses
import itertools

import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.training import planned_work
from tests.probes.transfer.conftest import PROBE

TRIALS = PROBE.trials()
ROWS = pd.DataFrame([dict(trial.labels) for trial in TRIALS])
GRID = list(itertools.product(("augmented", "plain"), (5, 20), (16, 64, 256), range(5)))


def of(role, stage):
    return [trial for trial in TRIALS if (dict(trial.labels)["role"], dict(trial.labels)["stage"]) == (role, stage)]


def place(trial):
    label = dict(trial.labels)
    return label["arm"], label["length"], label["batch_size"], label["block"]


@pytest.mark.parametrize("stage", ["pretraining", "probing", "finetuning"])
def test_the_runs_are_the_full_grid_once(stage):
    assert sorted(map(place, of("run", stage))) == sorted(GRID)


def test_bodies_differ_in_batch_size_length_seed_and_augmentation_alone():
    plain = set()
    for trial in of("run", "pretraining"):
        arm, length, size, block = place(trial)
        recipe = trial.recipe
        assert (recipe.budget.batch_size, recipe.budget.amount, recipe.seed) == (size, length, block)
        assert recipe.augmentation == (PROBE.augmentation if arm == "augmented" else Augmentation())
        assert recipe.data.name == "digits-0-4" and recipe.start == "initialization" and not trial.parents
        budget = dataclasses.replace(recipe.budget, batch_size=1, amount=1)
        plain.add(dataclasses.replace(recipe, budget=budget, seed=0, augmentation=Augmentation()))
    assert len(plain) == 1


@pytest.mark.parametrize(("stage", "trained"), [("probing", "head"), ("finetuning", "all")])
def test_what_becomes_of_a_body_differs_in_the_body_and_its_seed_alone(stage, trained):
    bodies = {place(trial): trial for trial in of("run", "pretraining")}
    plain = set()
    for trial in of("run", stage):
        assert trial.parents == (bodies[place(trial)],)
        assert trial.recipe.seed == place(trial)[-1]
        assert (trial.recipe.start, trial.recipe.trained) == ("body", trained)
        assert trial.recipe.data.name == "digits-5-9" and trial.recipe.data.n == 50
        plain.add(dataclasses.replace(trial.recipe, seed=0))
    assert len(plain) == 1


def test_fine_tuning_is_judged_with_the_views_of_the_design():
    for trial in of("run", "finetuning"):
        (measurement,) = trial.measures
        assert measurement.name == "test_time_augmentation"
        assert dict(measurement.parameters) == {"views": 20, "crop_scale": (0.6, 1.0), "flip": False}


def test_from_scratch_takes_fine_tunings_steps_on_fine_tunings_data_and_by_both_optimizers():
    finetuning = of("run", "finetuning")[0].recipe
    for stage, optimizer in (("scratch", ("lion", 8e-4, None)), ("scratch-as-finetuning", ("sgd", 0.001, 0.01))):
        trials = of("run", stage)
        assert [trial.recipe.seed for trial in trials] == list(range(5))
        for trial in trials:
            recipe = trial.recipe
            assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.head_lr) == optimizer
            assert planned_work(recipe).steps == planned_work(finetuning).steps == 100
            same = dataclasses.replace(recipe, start="body", optimizer=finetuning.optimizer, seed=finetuning.seed)
            assert same == finetuning and recipe.start == "initialization" and not trial.parents


def test_bodies_of_no_use_are_probed_alike():
    probing = of("run", "probing")[0].recipe
    for trial in of("untrained", "probing"):
        assert trial.recipe == dataclasses.replace(probing, start="initialization", seed=trial.recipe.seed)
        assert not trial.parents
    like = {place(trial)[-1]: trial for trial in of("run", "pretraining") if place(trial)[:3] == ("plain", 20, 64)}
    for trial in of("shuffled-source", "probing"):
        (body,) = trial.parents
        assert trial.recipe == dataclasses.replace(probing, seed=trial.recipe.seed)
        data = dataclasses.replace(body.recipe.data, shuffle_labels=False)
        assert body.recipe.data.shuffle_labels
        assert dataclasses.replace(body.recipe, data=data) == like[place(trial)[-1]].recipe


def test_the_a_a_control_is_plain_bodies_with_seeds_of_their_own():
    bodies = of("a-a", "pretraining")
    assert len(bodies) == len(of("a-a", "probing")) == 5 * 2 * 2
    assert len({dataclasses.replace(trial.recipe, seed=0) for trial in bodies}) == 1
    assert {trial.recipe.seed for trial in bodies} == {CONTROL_SEEDS + index for index in range(20)}
    assert bodies[0].recipe.augmentation == Augmentation()
    assert (bodies[0].recipe.budget.batch_size, bodies[0].recipe.budget.amount) == (64, 5)
    probed = pd.DataFrame([dict(trial.labels) for trial in of("a-a", "probing")])
    assert (probed.groupby(["block", "arm"]).size() == 2).all()


def test_shuffled_targets_are_plain_bodies_each_with_its_own_shuffle():
    trials = of("shuffled-target", "finetuning")
    assert len({trial.recipe.seed for trial in trials}) == len(trials) == 5 * 8
    finetuning = of("run", "finetuning")[0].recipe
    for trial in trials:
        assert trial.recipe.data.shuffle_labels and place(trial.parents[0])[:3] == ("plain", 20, 64)
        data = dataclasses.replace(trial.recipe.data, shuffle_labels=False)
        assert dataclasses.replace(trial.recipe, data=data, seed=finetuning.seed) == finetuning
        assert trial.measures[0].name == "chance_accuracy"


def test_a_replication_with_other_seeds_shares_no_run_with_the_first():
    other = dataclasses.replace(PROBE, seeds=tuple(range(5, 10)))
    assert not {trial.unlabeled() for trial in TRIALS} & {trial.unlabeled() for trial in other.trials()}


def test_the_order_in_which_seeds_are_listed_changes_no_run():
    turned = dataclasses.replace(PROBE, seeds=(4, 2, 0, 1, 3))
    assert set(turned.trials()) == set(TRIALS)


def test_no_controls_where_none_are_asked_for():
    roles = {dict(trial.labels)["role"] for trial in dataclasses.replace(PROBE, control=False).trials()}
    assert roles == {"run", "untrained", "shuffled-source"}


def test_every_ancestor_is_a_trial_of_the_design_so_that_bodies_can_share_a_computation():
    listed = {trial.unlabeled() for trial in TRIALS}
    assert {each.unlabeled() for trial in TRIALS for each in trial.with_ancestors()} == listed
    assert len(listed) == len(TRIALS)


def test_a_bank_is_a_probe_and_a_fine_tuning_of_each_of_many_bodies():
    trials = PROBE.bank_trials(7)
    assert [dict(trial.labels)["stage"] for trial in trials] == ["probing", "finetuning"] * 3 + ["probing"]
    assert [dict(trial.labels)["block"] for trial in trials] == [0, 0, 1, 1, 2, 2, 3]
    bodies = {trial.parents[0].recipe for trial in trials}
    assert len(bodies) == 4 and len({dataclasses.replace(body, seed=0) for body in bodies}) == 1
    seeds = {body.seed for body in bodies}
    assert not seeds & {trial.recipe.seed for trial in TRIALS}


def test_resizing_and_subsets_reach_every_run():
    probe = dataclasses.replace(
        PROBE, image_size=16, source_n=100, target_n=30, precision="float32", label_smoothing=0.1
    )
    for trial in probe.trials():
        data = trial.recipe.data
        assert data.image_size == 16 and data.n == {"digits-0-4": 100, "digits-5-9": 30}[data.name]
        assert trial.recipe.precision == "float32" and trial.recipe.label_smoothing == 0.1


def test_labels_are_of_the_run_itself():
    assert not ROWS.duplicated(["role", "stage", "arm", "length", "batch_size", "block", "replicate"]).any()
    for trial in TRIALS:
        label = dict(trial.labels)
        assert label["dataset"] == trial.recipe.data.name and label["seed"] == trial.recipe.seed
        assert label["lr"] == trial.recipe.optimizer.lr
