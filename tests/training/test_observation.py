import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Augmentation
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    observers,
    prepare_examples,
    train,
    train_ensemble,
)

RECIPE = Recipe(
    data=DataConfig(name="tiny", validation=6),
    model=ModelConfig(name="B-1/Wi-6", dropout=0.2),
    augmentation=Augmentation(flip=True, mixup=0.8),
    optimizer=OptimizerConfig(lr=1e-2),
    budget=BudgetConfig(amount=5, batch_size=12),
    precision="float32",
)


@pytest.fixture
def seen(monkeypatch):
    """Observers for tests; returns what "spy" has seen."""
    monkeypatch.setattr(observers, "_entries", dict(observers._entries))
    states = []

    @observers.register("spy")
    def spy(state, factor=1):
        states.append(state)
        return {"spied": factor * state.step}

    @observers.register("greedy")
    def greedy(state):
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002
        state.model.eval()
        found = state.evaluate("test"), state.evaluate("validation")
        initial = state.initial_parameters()
        moved = sum((value - initial[name]).square().sum().item() for name, value in state.model.named_parameters())
        assert len(state.optimizer_state["param_groups"]) == 1
        return {"loss": found[0].loss, "validation": found[1].loss, "moved": moved}

    return states


@pytest.mark.parametrize(
    ("every", "epochs"),
    [
        ("epoch", [1, 2, 3, 4, 5]),
        ("doubling", [0, 1, 2, 4, 5]),
        ("end", [5]),
        (1, [1, 2, 3, 4, 5]),
        (2, [2, 4, 5]),
        (5, [5]),
        (9, [5]),
    ],
)
def test_observers_are_due_at_their_epochs(every, epochs, seen):
    trained = train(RECIPE, [Observer(name="spy", every=every, parameters=(("factor", 10),))], device="cpu")
    assert [(state.epoch, state.step) for state in seen] == [(epoch, 3 * epoch) for epoch in epochs]
    rows = [row for row in trained.history if row[2] == "spied"]
    assert rows == [(3 * epoch, epoch, "spied", 30.0 * epoch) for epoch in epochs]


def test_an_epoch_cut_short_by_the_budget_is_the_last(seen):
    recipe = Recipe.from_plain({**RECIPE.to_plain(), "budget": {"amount": 4, "unit": "steps", "batch_size": 12}})
    train(recipe, [Observer(name="spy", every="doubling")], device="cpu")
    assert [(state.epoch, state.step) for state in seen] == [(0, 0), (1, 3), (2, 4)]


def test_looking_changes_nothing(seen):
    alone = train(RECIPE, device="cpu")
    watched = train(RECIPE, [Observer(name="greedy", every="doubling"), Observer(name="evaluation")], device="cpu")
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    training = [row for row in watched.history if row[2].startswith("train_")]
    assert training == list(alone.history)
    moved = [row[3] for row in watched.history if row[2] == "moved"]
    assert moved[0] == 0.0 and min(moved[1:]) > 0


def test_the_last_observation_is_the_final_evaluation():
    both = [Observer(name="evaluation", parameters=(("split", split),)) for split in ("test", "validation")]
    trained = train(RECIPE, both, device="cpu")
    for split, evaluation in trained.evaluations.items():
        last = {row[2]: row[3] for row in trained.history if row[1] == 5}
        assert last[f"{split}_loss"] == evaluation.loss
        assert last[f"{split}_accuracy"] == evaluation.top1
        assert last[f"{split}_top5"] == evaluation.top5


def test_an_unknown_observer_is_refused_before_the_first_step():
    def step(taken, total):
        raise AssertionError("a step was taken")

    with pytest.raises(InputError, match=r"observer = 'evalution': unknown; did you mean 'evaluation'\?"):
        train(RECIPE, [Observer(name="evalution", every="end")], device="cpu", on_step=step)


def test_a_split_that_is_not_there_is_refused():
    recipe = Recipe.from_plain({**RECIPE.to_plain(), "data": {"name": "tiny"}})
    assert prepare_examples(recipe.data, 0).validation is None
    look = Observer(name="evaluation", every="doubling", parameters=(("split", "validation"),))
    with pytest.raises(InputError, match="split = 'validation': expected 'test', or 'validation' where"):
        train(recipe, [look], device="cpu")


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "doublings", "", None])
def test_a_bad_schedule_is_refused(every):
    with pytest.raises(InputError, match=r"observer\.every = "):
        Observer(name="evaluation", every=every)


def test_the_history_is_told_as_it_grows_and_again_from_the_checkpoint(tmp_path):
    steps, told = [], []

    def on_step(step, total):
        steps.append(step)
        if step == 8 and steps.count(8) == 1:
            raise KeyboardInterrupt

    given = {"device": "cpu", "checkpoint": tmp_path / "run.pt", "checkpoint_every_s": 0, "on_step": on_step}
    listen = {"on_history": lambda history: told.append((len(steps), tuple(history)))}
    observer = Observer(name="evaluation", every="doubling")
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, (observer,), **given, **listen)
    before = len(told)
    assert told[0][0] == 0 and {row[0] for row in told[0][1]} == {0}
    trained = train(RECIPE, (observer,), **given, **listen)
    stopped = told[before - 1][1]
    assert told[before] == (8, stopped), "the checkpoint's rows come before the next step"
    assert told[-1][1] == trained.history and len(trained.history) > len(stopped) > 0
    assert all(later[1][: len(earlier[1])] == earlier[1] for earlier, later in pairwise(told))
    assert train(RECIPE, (observer,), device="cpu").history == trained.history


def test_without_a_checkpoint_an_empty_history_is_told_before_the_first_step():
    steps, told = [], []
    train(
        RECIPE,
        device="cpu",
        on_step=lambda *step: steps.append(step),
        on_history=lambda h: told.append((len(steps), len(h))),
    )
    assert told[0] == (0, 0) and told[-1][1] == 10


@pytest.fixture
def hoarder(monkeypatch):
    """An observer that tells how far the weights are from those of its first look, and how often it has looked."""
    monkeypatch.setattr(observers, "_entries", dict(observers._entries))

    @observers.register("hoarder")
    def hoard(state, factor=1):
        weights = state.model.head.weight.detach()
        first = state.memory.setdefault("first", weights.clone())
        state.memory["looks"] = state.memory.get("looks", torch.zeros(())) + 1
        return {f"moved{factor}": factor * (weights - first).norm(), f"looks{factor}": state.memory["looks"]}


HOARDERS = [
    Observer(name="hoarder", every="doubling"),
    Observer(name="hoarder", every="end", parameters=(("factor", 3),)),
]


def test_each_observer_has_a_memory_of_its_own_in_each_run(hoarder):
    for _ in range(2):
        trained = train(RECIPE, HOARDERS, device="cpu")
        found = {name: [row[3] for row in trained.history if row[2] == name] for name in ("looks1", "moved1", "looks3")}
        assert found["looks1"] == [1, 2, 3, 4, 5] and found["looks3"] == [1]
        assert found["moved1"][0] == 0 and min(found["moved1"][1:]) > 0


@pytest.mark.parametrize("stop", [5, 8, 13])
def test_memories_survive_an_interruption(hoarder, tmp_path, stop):
    def on_step(step, total):
        if step == stop:
            raise KeyboardInterrupt

    given = {"device": "cpu", "checkpoint": tmp_path / "run.pt", "checkpoint_every_s": 0}
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, HOARDERS, on_step=on_step, **given)
    assert train(RECIPE, HOARDERS, **given).history == train(RECIPE, HOARDERS, device="cpu").history


def test_members_of_an_ensemble_remember_each_their_own_over_an_interruption(hoarder, tmp_path):
    def on_step(step, total):
        if step == 8:
            raise KeyboardInterrupt

    recipes = [replace(RECIPE, seed=seed) for seed in (0, 1)]
    given = {"device": "cpu", "checkpoint": tmp_path / "runs.pt", "checkpoint_every_s": 0}
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(recipes, HOARDERS, on_step=on_step, **given)
    resumed, whole = train_ensemble(recipes, HOARDERS, **given), train_ensemble(recipes, HOARDERS, device="cpu")
    assert [member.history for member in resumed] == [member.history for member in whole]
    moved = [[row[3] for row in member.history if row[2] == "moved1"] for member in whole]
    assert moved[0][0] == moved[1][0] == 0 and min(moved[0][1:] + moved[1][1:]) > 0
    assert moved[0] != moved[1]
    for member in whole:
        assert [row[3] for row in member.history if row[2] == "looks1"] == [1, 2, 3, 4, 5]
