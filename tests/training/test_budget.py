"""Steps that a budget pays for: epochs, steps, and compute to the nearest step."""

from __future__ import annotations

import pytest

from mlptheory.base import InputError
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Recipe,
    budget_steps,
    planned_work,
    recipe_macs,
    steps_per_epoch,
    train,
)


@pytest.mark.parametrize(("drop_last", "expected"), [(False, 4), (True, 3)])
def test_an_uneven_last_batch_is_a_step_unless_it_is_dropped(drop_last, expected):
    budget = BudgetConfig(batch_size=30, drop_last=drop_last)
    assert steps_per_epoch(budget, 100) == expected
    assert budget_steps(BudgetConfig(amount=5, batch_size=30, drop_last=drop_last), 100) == 5 * expected


@pytest.mark.parametrize("amount", [1, 7, 19])
@pytest.mark.parametrize("drop_last", [False, True])
def test_compute_buys_the_examples_it_pays_for_to_within_half_a_batch(amount, drop_last):
    macs, n = 3_141_592, 103
    budget = BudgetConfig(amount=amount, unit="compute", batch_size=10, drop_last=drop_last)
    steps = budget_steps(budget, n, macs)
    per_epoch = steps_per_epoch(budget, n)
    seen_an_epoch = 100 if drop_last else 103
    epochs, rest = divmod(steps, per_epoch)
    seen = epochs * seen_an_epoch + min(rest * 10, seen_an_epoch)
    assert abs(seen - amount * 1e9 / (3 * macs)) <= 5 + (0 if drop_last else 7)


def test_compute_that_pays_for_no_step_names_the_least_that_does():
    with pytest.raises(InputError, match=r"budget.amount = 1: expected at least 3 G MACs"):
        budget_steps(BudgetConfig(amount=1, unit="compute", batch_size=100), 1000, macs=10_000_000)


def test_macs_of_a_recipe_are_those_of_its_dense_layers():
    recipe = Recipe(data=DataConfig(n=50), model=ModelConfig(name="B-2/Wi-8"))
    assert recipe_macs(recipe) == 64 * 8 + 2 * 2 * 4 * 8 * 8 + 8 * 10


def test_a_run_takes_the_steps_that_were_planned():
    budget = BudgetConfig(amount=1, unit="compute", batch_size=16)
    recipe = Recipe(data=DataConfig(n=320), model=ModelConfig(name="B-2/Wi-256"), budget=budget)
    planned = planned_work(recipe)
    assert planned.steps == train(recipe, device="cpu").history[-1][0] == round(1e9 / (3 * recipe_macs(recipe)) / 16)
