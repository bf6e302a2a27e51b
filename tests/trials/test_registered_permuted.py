"""The registered measure of permuted training: what it hands on, and what it asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlptheory.base.errors import InputError
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train_permuted
from mlptheory.training import build_recipe_model as build
from mlptheory.trials import MeasureContext
from mlptheory.trials.registered import measures

RECIPE = Recipe(
    data=DataConfig(n=40),
    model=ModelConfig(name="S-1/Wi-6"),
    optimizer=OptimizerConfig(name="lion", lr=1e-2),
    budget=BudgetConfig(amount=1, batch_size=16),
    precision="float32",
    seed=3,
)


def _measured(recipe=RECIPE, **parameters):
    examples = prepare_examples(recipe.data, recipe.seed)
    context = MeasureContext(build(recipe, examples), (), (), examples, recipe)
    return measures["permuted_training"](context, **parameters)


@pytest.mark.parametrize("equalized", [False, True])
def test_values_are_the_largest_over_steps_and_flips_are_added(equalized):
    found = _measured(steps=7, equalized=equalized, wrong=True)
    recipe = replace(RECIPE, budget=BudgetConfig(amount=7, unit="steps", batch_size=16))
    seen = train_permuted(recipe, permutation=3, wrong=1_000_003, equalized=equalized, device="cpu")
    expected = {"sign_updates": 7 * (64 * 6 + 6 + 6 * 6 + 6 + 2 * 6 + 6 * 10 + 10)}
    for name, lane in (("permuted", seen.transported), ("wrong", seen.wrong)):
        expected[f"{name}_weight_deviation"] = max(lane.weights.tolist())
        expected[f"{name}_logit_deviation"] = max(lane.logits.tolist())
        expected[f"{name}_sign_flips"] = sum(lane.flips.tolist())
    assert len(seen.wrong.weights) == 7 and seen.wrong.flips.sum() > seen.wrong.flips.max()
    assert found == expected


def test_there_are_flips_of_lion_alone_and_no_wrong_run_unless_asked_for():
    sgd = replace(RECIPE, optimizer=OptimizerConfig(name="sgd", lr=0.05))
    assert set(_measured(sgd, steps=1)) == {"permuted_weight_deviation", "permuted_logit_deviation"}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="steps = 0"):
        _measured(steps=0)
    with pytest.raises(InputError, match=r"model = 'CNN-1/Wi-4': expected an MLP"):
        _measured(replace(RECIPE, model=ModelConfig(name="CNN-1/Wi-4")), steps=1)
    context = MeasureContext(None, (), (), prepare_examples(RECIPE.data, 3), RECIPE)
    with pytest.raises(InputError, match="measure = 'permuted_training': expected a trial with a recipe"):
        measures["permuted_training"](context, steps=1)
