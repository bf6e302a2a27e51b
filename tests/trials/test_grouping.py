"""Which trials are trained together is decided by the trials and the kind of device, by nothing else."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mlptheory.base.errors import InputError
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, ScheduleConfig
from mlptheory.trials import Measurement, Trial, group_trials, grouping, plan_schedule
from mlptheory.trials.grouping import distinct_members

RECIPE = Recipe(model=ModelConfig(name="B-1/Wi-16"), budget=BudgetConfig(amount=1, batch_size=8))


def trial(seed: int = 0, lr: float = 1e-3, **changes) -> Trial:
    return Trial(recipe=replace(RECIPE, seed=seed, optimizer=OptimizerConfig(lr=lr)), **changes)


def of_model(name: str, batch_size: int) -> list[Trial]:
    recipe = replace(RECIPE, model=ModelConfig(name=name), budget=BudgetConfig(batch_size=batch_size))
    return [Trial(recipe=replace(recipe, seed=seed)) for seed in (0, 1)]


def are_together(*trials: Trial, device: str = "cpu") -> bool:
    groups = group_trials(trials, device)
    assert sorted(position for group in groups for position in group) == list(range(len(trials)))
    return len(groups) == 1


def test_trials_that_differ_in_seed_and_learning_rate_are_together():
    assert are_together(trial(0), trial(1), trial(0, lr=1e-2), trial(7, lr=1e-4))


def test_labels_keep_none_apart():
    assert are_together(trial(0, labels=(("arm", "a"),)), trial(1, labels=(("arm", "b"), ("block", 3))))


APART = {
    "data": {"data": DataConfig(n=64)},
    "model": {"model": ModelConfig(name="B-1/Wi-17")},
    "model's options": {"model": ModelConfig(name="B-1/Wi-16", norm="none")},
    "augmentation": {"augmentation": Augmentation(flip=True)},
    "optimizer": {"optimizer": OptimizerConfig(name="adamw")},
    "weight decay": {"optimizer": OptimizerConfig(weight_decay=0.1)},
    "batch size": {"budget": BudgetConfig(amount=1, batch_size=9)},
    "length": {"budget": BudgetConfig(amount=2, batch_size=8)},
    "schedule": {"schedule": ScheduleConfig(name="cosine")},
    "loss": {"loss": "squared_error"},
    "smoothing": {"label_smoothing": 0.1},
    "precision": {"precision": "float64"},
}


@pytest.mark.parametrize("change", APART.values(), ids=APART)
def test_trials_that_differ_in_anything_else_are_apart(change):
    assert not are_together(trial(0), Trial(recipe=replace(RECIPE, **{"seed": 1, **change})))


@pytest.mark.parametrize(
    "changes",
    [
        {"observers": (Observer(name="weights"),)},
        {"measures": (Measurement(name="weight_norm"),)},
        {"parents": (trial(9),)},
    ],
    ids=["observers", "measures", "parents"],
)
def test_what_is_looked_at_and_parents_keep_trials_apart(changes):
    assert not are_together(trial(0), trial(1, **changes))
    assert are_together(trial(0, **changes), trial(1, **changes)) == ("parents" not in changes)


def test_trials_that_start_from_a_parent_or_only_measure_are_apart():
    parent = trial(9)
    children = [Trial(recipe=replace(RECIPE, seed=seed, start="parent"), parents=(parent,)) for seed in (0, 1)]
    pairs = [Trial(parents=(parent, child), measures=(Measurement(name="weight_distance"),)) for child in children]
    assert group_trials([*children, *pairs], "cpu") == ((0,), (1,), (2,), (3,))


def test_recipes_that_cannot_be_trained_together_are_apart(monkeypatch):
    monkeypatch.setattr(grouping, "can_train_together", lambda recipe: recipe.seed != 1)
    assert group_trials([trial(0), trial(1), trial(2), trial(1, lr=0.1)], "cpu") == ((0, 2), (1,), (3,))


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (16, [16]), (17, [8, 9]), (32, [16, 16]), (35, [11, 12, 12])])
def test_groups_are_cut_evenly_in_the_order_of_the_design(count, sizes):
    groups = group_trials([trial(seed) for seed in range(count)], "cpu")
    assert [len(group) for group in groups] == sizes
    assert [position for group in groups for position in group] == list(range(count))


def test_arms_that_take_turns_are_grouped_each_by_itself():
    wide = [replace(trial(seed), recipe=replace(RECIPE, seed=seed, label_smoothing=0.0)) for seed in range(3)]
    turns = [each for seed in range(3) for each in (trial(seed), wide[seed])]
    assert group_trials(turns, "cpu") == ((0, 2, 4), (1, 3, 5))


def test_equal_trials_take_one_place():
    trials = [trial(seed, labels=(("copy", copy),)) for copy in range(3) for seed in range(16)]
    groups = group_trials(trials, "cpu")
    assert groups == (tuple(range(48)),)
    assert [len(members) for members in distinct_members(trials, groups)] == [16]


@pytest.mark.parametrize(
    ("name", "batch_size", "pays"),
    [
        ("S-1/Wi-500", 40, True),
        ("S-1/Wi-500", 41, False),
        ("S-2/Wi-250", 80, True),
        ("S-2/Wi-250", 81, False),
        ("B-1/Wi-250/E-1", 80, True),
        ("B-1/Wi-250/E-1", 81, False),
        ("B-1/Wi-100", 125, True),
        ("B-1/Wi-100", 126, False),
        ("S-1/Wi-547", 1, True),
        ("S-1/Wi-548", 1, False),
        ("MLP-2/Wi-500", 40, True),
        ("MLP-2/Wi-500", 41, False),
        ("MLP-1/Wi-500", 1024, True),
        ("Linear", 1024, True),
        ("CNN-1/Wi-4", 1, False),
    ],
)
def test_a_cpu_trains_together_what_is_small(name, batch_size, pays):
    assert are_together(*of_model(name, batch_size)) is pays


@pytest.mark.parametrize(
    ("name", "batch_size", "pays"),
    [("B-12/Wi-1024", 4096, True), ("B-12/Wi-1024", 4097, False), ("CNN-1/Wi-4", 8, False)],
)
def test_a_gpu_trains_mlps_together_up_to_large_batches(name, batch_size, pays):
    assert are_together(*of_model(name, batch_size), device="cuda") is pays


def test_a_device_that_nothing_is_known_of_trains_each_by_itself():
    assert not are_together(trial(0), trial(1), device="mps")


def test_groups_follow_the_design_not_the_order_in_which_it_is_hashed():
    trials = [trial(seed, lr) for lr in (1e-3, 1e-4) for seed in range(12)]
    expected = {trials[position] for position in group_trials(trials, "cpu")[0]}
    assert expected == set(trials[:12])
    shuffled = random.Random(0).sample(trials, len(trials))
    assert {shuffled[position] for position in group_trials(shuffled, "cpu")[0]} == set(shuffled[:12])


def test_groups_never_span_stages_and_positions_count_through_them():
    one, two = [trial(seed) for seed in range(3)], [trial(seed, lr=1.0) for seed in range(18)]
    schedule = plan_schedule(one, two, device="cpu")
    assert schedule.groups == ((0, 1, 2), tuple(range(3, 12)), tuple(range(12, 21)))
    assert plan_schedule(one, device="cpu").groups == schedule.groups[:1]


def test_a_stage_that_is_not_decided_has_no_members_yet():
    groups = ((0, 2), (1,), (3, 4))
    trials = [trial(seed) for seed in range(5)]
    assert distinct_members(trials[:3], groups) == ((trials[0], trials[2]), (trials[1],))
    with pytest.raises(InputError, match="trials = '4 trials': expected whole stages"):
        distinct_members(trials[:4], groups)


def test_a_trial_of_an_earlier_stage_keeps_its_first_place():
    trials = [trial(0), trial(1), trial(1, labels=(("stage", 2),)), trial(2), trial(3)]
    assert distinct_members(trials, ((0, 1), (2, 3, 4))) == ((trial(0), trial(1)), (trial(2), trial(3)))
