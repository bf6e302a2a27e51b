"""Every run of the design once, and each differing from its like in nothing but what is compared."""

import dataclasses
import itertools

import pandas as pd
import pytest

from mlptheory.data import Augmentation
from mlptheory.probes import Permutation
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.training import planned_work
from tests.probes.permutation.conftest import PROBE, TINY

TRIALS = PROBE.trials()
ROWS = pd.DataFrame([dict(trial.labels) for trial in TRIALS])
TREATMENTS = ("plain", "permuted", "augmented", "augment-then-permute", "permute-then-augment")


def of(role, arm="mlp", images=None):
    return [
        trial
        for trial in TRIALS
        if dict(trial.labels)["role"] == role
        and dict(trial.labels)["arm"] == arm
        and images in (None, dict(trial.labels)["images"])
    ]


def test_the_runs_are_the_full_grid_once():
    runs = ROWS[ROWS["role"] == "run"]
    found = sorted(zip(runs["arm"], runs["images"], runs["block"], strict=True))
    assert found == sorted(itertools.product(("mlp", "baseline"), TREATMENTS, range(6)))


def test_the_baseline_is_augmented_only_where_asked():
    plain = dataclasses.replace(PROBE, baseline_augmented=False)
    rows = pd.DataFrame([dict(trial.labels) for trial in plain.trials()])
    assert set(rows.loc[rows["arm"] == "baseline", "images"]) == {"plain", "permuted"}
    assert set(rows.loc[rows["arm"] == "mlp", "images"]) == {*TREATMENTS, "both"}


@pytest.mark.parametrize("arm", ["mlp", "baseline"])
def test_runs_of_an_arm_differ_in_seed_permutation_and_augmentation_alone(arm):
    like = set()
    for trial in of("run", arm):
        label, recipe = dict(trial.labels), trial.recipe
        images, block = label["images"], label["block"]
        permuted = "permute" in images
        assert recipe.data.pixel_permutation == (block if permuted else None)
        assert recipe.data.permute == ("before" if images == "permute-then-augment" else "after")
        assert recipe.augmentation == (PROBE.augmentation if "augment" in images else Augmentation())
        assert recipe.seed == (2_000_000 + block if permuted else block)
        data = dataclasses.replace(recipe.data, pixel_permutation=None, permute="after")
        like.add(dataclasses.replace(recipe, data=data, augmentation=Augmentation(), seed=0))
    assert len(like) == 1
    assert like.pop().model.name == {"mlp": "B-2/Wi-64", "baseline": "CNN-1/Wi-32"}[arm]


def test_both_orders_share_permutation_and_seed_and_nothing_else_differs():
    for after, before in zip(
        of("run", images="augment-then-permute"), of("run", images="permute-then-augment"), strict=True
    ):
        data = dataclasses.replace(before.recipe.data, permute="after")
        assert dataclasses.replace(before.recipe, data=data) == after.recipe


def test_exact_runs_are_every_model_and_optimizer_on_the_first_seeds():
    found = {(trial.recipe.model.name, trial.recipe.optimizer.name, trial.recipe.seed): trial for trial in of("exact")}
    assert set(found) == set(itertools.product(("S-2/Wi-32", "B-1/Wi-32"), ("sgd", "adamw", "lion"), (4, 0, 2, 1)))
    for trial in found.values():
        recipe = trial.recipe
        assert recipe.precision == "float64" and recipe.augmentation == PROBE.augmentation
        assert recipe.optimizer.weight_decay == 0.1 and recipe.data.pixel_permutation is None
        assert planned_work(recipe).steps == 200 and recipe.data.n == 500
        assert dict(trial.measures[0].parameters) == {"steps": 200, "equalized": False, "wrong": True}


def test_lion_is_taken_step_by_step_in_float32():
    exact = {(trial.recipe.model.name, trial.recipe.seed): trial for trial in of("exact") if _is_lion(trial)}
    found = of("one-step")
    assert len(found) == 2 * 4
    for trial in found:
        like = exact[trial.recipe.model.name, trial.recipe.seed].recipe
        assert dataclasses.replace(trial.recipe, precision="float64") == like
        assert trial.recipe.precision == "float32"
        assert dict(trial.measures[0].parameters) == {"steps": 200, "equalized": True, "wrong": False}


def _is_lion(trial):
    return trial.recipe.optimizer.name == "lion"


def test_exact_runs_take_no_more_examples_than_the_design_has():
    sizes = {
        (trial.recipe.data.n, trial.recipe.budget.batch_size) for trial in TINY.trials() if "both" in str(trial.labels)
    }
    assert sizes == {(40, 40)}
    whole = dataclasses.replace(PROBE, n=None)
    sizes = {
        (each.recipe.data.n, each.recipe.budget.batch_size) for each in whole.trials() if "both" in str(each.labels)
    }
    assert sizes == {(512, 64)}


def test_shuffled_labels_are_plain_runs_each_with_its_own_shuffle():
    found = of("shuffled")
    assert {trial.recipe.seed for trial in found} == {CONTROL_SEEDS + index for index in range(12)}
    plain = of("run", images="plain")[0].recipe
    for trial in found:
        data = dataclasses.replace(trial.recipe.data, shuffle_labels=False)
        assert trial.recipe.data.shuffle_labels
        assert dataclasses.replace(trial.recipe, data=data, seed=plain.seed) == plain
        assert [measure.name for measure in trial.measures] == ["chance_accuracy"]
    without = dataclasses.replace(PROBE, control=False).trials()
    assert set(TRIALS) - set(without) == set(found)


def test_a_replication_with_other_seeds_shares_no_run_with_the_first():
    other = dataclasses.replace(PROBE, seeds=tuple(range(6, 12)))
    assert not {trial.unlabeled() for trial in TRIALS} & {trial.unlabeled() for trial in other.trials()}


def test_a_bank_is_plain_runs_of_both_arms_and_exact_ones():
    trials = PROBE.bank_trials(7)
    labels = [dict(trial.labels) for trial in trials]
    assert [(each["arm"], each["images"]) for each in labels] == (
        [("mlp", "plain"), ("baseline", "plain"), ("mlp", "both")] * 2 + [("mlp", "plain")]
    )
    assert len({dataclasses.replace(trials[place].recipe, seed=0) for place in (0, 3, 6)}) == 1
    assert not {trial.recipe.seed for trial in trials} & {trial.recipe.seed for trial in TRIALS}


def test_a_resnet_has_the_normalization_that_it_is_built_with():
    probe = Permutation(baseline="ResNet-18", baseline_lr=1e-3, seeds=2, exact_seeds=1)
    norms = {trial.recipe.model.name: trial.recipe.model.norm for trial in probe.trials()}
    assert norms["ResNet-18"] == "batch" and norms["B-2/Wi-64"] == "layer"


def test_settings_reach_every_run():
    probe = dataclasses.replace(
        PROBE, image_size=16, n=100, precision="float32", label_smoothing=0.1, weight_decay=0.2, optimizer="adamw"
    )
    for trial in probe.trials():
        recipe, label = trial.recipe, dict(trial.labels)
        assert recipe.data.image_size == 16 and recipe.data.n == 100 and recipe.label_smoothing == 0.1
        if label["images"] != "both":
            assert recipe.precision == "float32" and recipe.optimizer.weight_decay == 0.2
            assert recipe.optimizer.name == "adamw"


def test_labels_are_of_the_run_itself():
    key = ["role", "arm", "images", "model", "optimizer", "block", "replicate"]
    assert not ROWS.duplicated(key).any()
    for trial in TRIALS:
        label, recipe = dict(trial.labels), trial.recipe
        assert label["seed"] == recipe.seed and label["lr"] == recipe.optimizer.lr
        assert (label["model"], label["optimizer"]) == (recipe.model.name, recipe.optimizer.name)
        assert label["weight_decay"] == recipe.optimizer.weight_decay
