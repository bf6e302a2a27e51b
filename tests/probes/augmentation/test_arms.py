"""Every run of the design once, each differing from its like in nothing but what is compared."""

import dataclasses
import itertools

import numpy as np
import pandas as pd

from mlptheory import data
from mlptheory.probes.augmentation.tuning import choose
from mlptheory.probes.settings import CONTROL_SEEDS
from mlptheory.probes.tuning import TUNING_SEEDS
from tests.probes.augmentation.conftest import PROBE, UNTUNED

TUNING, RUNS = PROBE.trials(), PROBE.follow_up(None)
CROP = {"crop_scale": (0.5, 1.0), "crop_ratio": (1.0, 1.0)}
MIXUP = {"mixup": 0.8, "mixup_per": "example"}
CYCLIC = {"shift": 1, "shift_mode": "cyclic"}
OPERATORS = {
    "none": data.Augmentation(),
    "flip": data.Augmentation(flip=True),
    "crop": data.Augmentation(**CROP),
    "flip+crop": data.Augmentation(flip=True, **CROP),
    "mixup": data.Augmentation(**MIXUP),
    "flip+crop+mixup": data.Augmentation(flip=True, **CROP, **MIXUP),
    "flip+shift": data.Augmentation(flip=True, **CYCLIC),
    "flip+shift conjugated": data.Augmentation(flip=True, **CYCLIC),
    "flip+crop as noise": data.Augmentation(flip=True, **CROP, as_noise=True),
}
AT_EVERY_SIZE = ("none", "flip+crop+mixup")


def label(trial, name):
    return dict(trial.labels)[name]


def of(role, trials=RUNS):
    return [trial for trial in trials if label(trial, "role") == role]


def place(trial):
    return tuple(label(trial, name) for name in ("learner", "arm", "size", "block"))


def stripped(recipe):
    """Return a recipe without what is meant to differ within a learner: augmentation, size, pixels, seed, rate."""
    plain = dataclasses.replace(recipe.data, n=1, pixel_permutation=None, permute="after")
    optimizer = dataclasses.replace(recipe.optimizer, lr=1.0)
    return dataclasses.replace(recipe, data=plain, augmentation=data.Augmentation(), optimizer=optimizer, seed=0)


def test_the_runs_are_every_arm_at_the_largest_size_and_two_at_every_size():
    expected = [("mlp", arm, 80, seed) for arm in OPERATORS for seed in range(5)]
    expected += [("cnn", arm, 80, seed) for arm in AT_EVERY_SIZE for seed in range(5)]
    smaller = itertools.product(("mlp", "cnn"), AT_EVERY_SIZE, (20, 40), range(5))
    assert sorted(map(place, of("run"))) == sorted([*expected, *smaller])


def test_runs_differ_in_arm_size_seed_and_rate_alone():
    kept = set()
    for trial in of("run"):
        learner, arm, size, block = place(trial)
        assert trial.recipe.augmentation == OPERATORS[arm]
        assert (trial.recipe.data.n, trial.recipe.seed) == (size, block)
        assert trial.recipe.model.name == PROBE.models[learner] and not trial.parents
        kept.add((learner, stripped(trial.recipe)))
    assert len(kept) == 2


def test_the_conjugated_arm_permutes_before_its_operators_with_a_permutation_for_every_seed():
    conjugated = [trial for trial in of("run") if trial.recipe.data.pixel_permutation is not None]
    assert {label(trial, "arm") for trial in conjugated} == {"flip+shift conjugated"} and len(conjugated) == 5
    orthogonal = {place(trial)[-1]: trial for trial in of("run") if label(trial, "arm") == "flip+shift"}
    for trial in conjugated:
        assert trial.recipe.data.permute == "before" and label(trial, "permuted") == "before"
        assert trial.recipe.data.pixel_permutation == trial.recipe.seed
        plain = dataclasses.replace(trial.recipe.data, pixel_permutation=None, permute="after")
        assert dataclasses.replace(trial.recipe, data=plain) == orthogonal[place(trial)[-1]].recipe


def test_the_orthogonal_operators_are_orthogonal_maps():
    from mlptheory.data import Loader, load

    part = load("digits", "train").select(np.arange(50))
    moved = next(Loader(part, batch_size=50, augmentation=OPERATORS["flip+shift"], shuffle=False).batches(epoch=0))
    still = next(Loader(part, batch_size=50, shuffle=False).batches(epoch=0))
    before, after = (each.inputs.flatten(1).sort(dim=1).values for each in (still, moved))
    assert (before == after).all() and not (still.inputs == moved.inputs).all()


def test_conjugated_operators_move_images_farther_as_the_page_says():
    from mlptheory.data import Loader, load

    def moved(**permuted):
        part = load("digits", "train").select(np.arange(400))
        settings = {"batch_size": 400, "shuffle": False, **permuted}
        still = next(Loader(part, **settings).batches(epoch=0)).inputs
        shifted = next(Loader(part, augmentation=data.Augmentation(**CYCLIC), **settings).batches(epoch=0)).inputs
        return (shifted - still).flatten(1).square().sum(dim=1).mean().sqrt().item()

    assert round(moved(), 1) == 2.8
    for seed in range(3):
        assert 3.7 < moved(pixel_permutation=seed, permute="before") < 4.0


def test_every_arm_of_a_learner_is_tuned_over_the_same_grid_at_the_largest_size():
    expected = [
        (learner, arm, PROBE.base_lr(learner) * multiple, TUNING_SEEDS + index)
        for learner, arms in (("mlp", OPERATORS), ("cnn", AT_EVERY_SIZE))
        for arm in arms
        for multiple in PROBE.lr_grid
        for index in range(2)
    ]
    found = [
        (label(each, "learner"), label(each, "arm"), each.recipe.optimizer.lr, each.recipe.seed) for each in TUNING
    ]
    assert sorted(found) == sorted(expected)
    assert {(each.recipe.data.n, each.recipe.data.validation) for each in TUNING} == {(80, 0.2)}
    assert {stripped(each.recipe) for each in TUNING} == {stripped(each.recipe) for each in of("run")}


def table_of(best):
    rows = [dict(trial.labels) for trial in TUNING]
    for row in rows:
        octaves = np.log2(row["lr"] / (PROBE.base_lr(row["learner"]) * best[row["learner"], row["arm"]]))
        row |= {"validation_accuracy": 0.9 - 0.01 * octaves**2, "validation_loss": 1.0, "diverged": False}
    return pd.DataFrame(rows)


def test_each_arm_runs_at_the_rate_that_was_best_for_it():
    cells = [("mlp", arm) for arm in OPERATORS] + [("cnn", arm) for arm in AT_EVERY_SIZE]
    best = {cell: PROBE.lr_grid[index % 5] for index, cell in enumerate(cells)}
    table = table_of(best)
    chosen = choose(table)
    assert {cell: choice.lr / PROBE.base_lr(cell[0]) for cell, choice in chosen.items()} == best
    for trial in PROBE.follow_up(table):
        cell = label(trial, "learner"), label(trial, "arm")
        assert trial.recipe.optimizer.lr == label(trial, "lr") == PROBE.base_lr(cell[0]) * best[cell]


def test_stand_ins_are_no_tuning_runs():
    assert not {trial.unlabeled().recipe for trial in RUNS} & {trial.unlabeled().recipe for trial in TUNING}
    assert len(RUNS) == len(
        PROBE.follow_up(
            table_of(dict.fromkeys([("mlp", arm) for arm in OPERATORS] + [("cnn", arm) for arm in AT_EVERY_SIZE], 1.0))
        )
    )


def test_without_a_grid_all_is_run_at_once_on_all_examples():
    assert UNTUNED.follow_up(None) == ()
    trials = UNTUNED.trials()
    assert {label(trial, "role") for trial in trials} == {"run", "shuffled", "exact-null"}
    assert {trial.recipe.data.validation for trial in trials} == {0}
    rates = {
        (label(trial, "learner"), trial.recipe.optimizer.lr / UNTUNED.base_lr(label(trial, "learner")))
        for trial in trials
    }
    assert rates == {("mlp", 0.5), ("cnn", 0.5)}


def test_arms_that_a_design_lacks_are_left_out_and_not_named():
    assert UNTUNED.arms_of("mlp") == ("none", "flip", "flip+shift", "flip+shift conjugated", "flip as noise")
    plain = dataclasses.replace(PROBE, flip=False)
    assert plain.arms_of("mlp") == ("none", "crop", "mixup", "crop+mixup", "shift", "shift conjugated", "crop as noise")
    assert not any(trial.recipe.augmentation.flip for trial in plain.follow_up(None))


def test_random_labels_are_learned_under_the_spatial_arm():
    trials = [trial for trial in of("shuffled") if label(trial, "arm") != "none"]
    assert [trial.recipe.seed for trial in trials] == list(range(5))
    like = {place(trial)[-1]: trial.recipe for trial in of("run") if place(trial)[:3] == ("mlp", "flip+crop", 80)}
    for trial in trials:
        recipe = trial.recipe
        assert recipe.data.shuffle_labels and recipe.budget.amount == 100
        data_again = dataclasses.replace(recipe.data, shuffle_labels=False)
        budget = dataclasses.replace(recipe.budget, amount=50)
        assert dataclasses.replace(recipe, data=data_again, budget=budget) == like[place(trial)[-1]]
        assert [measure.name for measure in trial.measures] == ["neighbors"]


def test_the_leak_check_has_shuffles_of_its_own():
    probe = dataclasses.replace(PROBE, shuffles=3)
    trials = [trial for trial in of("shuffled", probe.follow_up(None)) if label(trial, "arm") == "none"]
    assert {trial.recipe.seed for trial in trials} == {CONTROL_SEEDS + index for index in range(15)}
    assert all(trial.measures[0].name == "chance_accuracy" for trial in trials)


def test_the_exact_null_permutes_after_everything_with_seeds_of_its_own():
    trials = of("exact-null")
    assert len(trials) == len({trial.recipe.seed for trial in trials}) == 5 * 2
    assert not {trial.recipe.seed for trial in trials} & {trial.recipe.seed for trial in RUNS if trial not in trials}
    full = next(trial.recipe for trial in of("run") if place(trial) == ("mlp", "flip+crop+mixup", 80, 0))
    for trial in trials:
        assert trial.recipe.data.pixel_permutation == trial.recipe.seed and trial.recipe.data.permute == "after"
        plain = dataclasses.replace(trial.recipe.data, pixel_permutation=None)
        assert dataclasses.replace(trial.recipe, data=plain, seed=0) == full


def test_nets_without_augmentation_are_tested_under_every_operator_at_the_largest_size():
    for trial in of("run"):
        under = {dict(each.parameters)["name"]: each for each in trial.measures if each.name == "accuracy_under"}
        wanted = {"flip", "crop", "flip_crop", "orthogonal"} if place(trial)[1:3] == ("none", 80) else set()
        assert set(under) == wanted
        names = {each.name for each in trial.measures}
        assert {"invariance", "neighbors"} <= names and ("first_layer" in names) == (place(trial)[0] == "mlp")
    arms = {"flip": "flip", "crop": "crop", "flip_crop": "flip+crop", "orthogonal": "flip+shift"}
    first = next(trial for trial in of("run") if place(trial) == ("mlp", "none", 80, 0))
    for each in first.measures:
        if each.name == "accuracy_under":
            fields = dict(each.parameters)
            assert (
                data.Augmentation(**{k: v for k, v in fields.items() if k != "name"}) == OPERATORS[arms[fields["name"]]]
            )


def test_no_controls_where_none_are_asked_for():
    roles = {label(trial, "role") for trial in dataclasses.replace(PROBE, control=False).follow_up(None)}
    assert roles == {"run", "shuffled"}


def test_a_replication_with_other_seeds_shares_no_run_with_the_first():
    other = dataclasses.replace(PROBE, seeds=tuple(range(5, 10)))
    assert not {trial.unlabeled() for trial in RUNS} & {trial.unlabeled() for trial in other.follow_up(None)}


def test_a_bank_is_nets_without_augmentation_that_differ_in_the_seed():
    trials = PROBE.bank_trials(7)
    assert len({dataclasses.replace(trial.recipe, seed=0) for trial in trials}) == 1
    assert len({trial.recipe.seed for trial in trials}) == 7
    assert trials[0].recipe.augmentation == data.Augmentation() and trials[0].recipe.data.n == 80
    assert not {trial.recipe.seed for trial in trials} & {trial.recipe.seed for trial in (*TUNING, *RUNS)}


def test_labels_are_of_the_run_itself():
    names = ["role", "learner", "arm", "size", "permuted", "block", "replicate", "lr"]
    rows = pd.DataFrame([dict(trial.labels) for trial in (*TUNING, *RUNS)])
    assert not rows.duplicated(names).any()
    for trial in (*TUNING, *RUNS):
        assert label(trial, "seed") == trial.recipe.seed and label(trial, "lr") == trial.recipe.optimizer.lr
        assert label(trial, "size") == trial.recipe.data.n and label(trial, "model") == trial.recipe.model.name
