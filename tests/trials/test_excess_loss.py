"""The registered measure against the teacher's law summed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlptheory.base.errors import InputError
from mlptheory.data import load, teacher_probabilities
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.trials import Measurement, Schedule, Trial, run_trial
from mlptheory.trials.registered import MeasureContext, measure_excess_loss
from mlptheory.trials.run import Task

RECIPE = Recipe(
    data=DataConfig(name="teacher", n=512),
    model=ModelConfig(name="Linear"),
    optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.0),
    budget=BudgetConfig(amount=1, batch_size=64),
    label_smoothing=0.0,
    precision="float32",
)


@pytest.mark.parametrize("permutation", [None, 3])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_it_is_what_the_sum_over_test_images_says(permutation, precision):
    recipe = replace(RECIPE, data=DataConfig(name="teacher", n=512, pixel_permutation=permutation), precision=precision)
    task = Task(
        trial=Trial(recipe=recipe, measures=(Measurement(name="excess_loss"),)),
        digest="d",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision=precision, groups=()),
        data_root=None,
        checkpoint=None,
        keep_weights=False,
    )
    record, _ = run_trial(task)
    trained = train(recipe, device="cpu")
    weight, bias = (parameter.detach().double().numpy() for parameter in trained.model.head.parameters())
    normalization = prepare_examples(recipe.data, recipe.seed).normalization
    images = load("teacher", "test").images
    x = (images.flatten(1).numpy() / 255 - normalization.mean[0]) / normalization.std[0]
    if permutation is not None:
        from mlptheory.data import pixel_permutation

        x = x[:, pixel_permutation(permutation, (1, 4, 4)).numpy()]
    logits = x @ weight.T + bias
    model = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    law = teacher_probabilities(images)
    expected = (law * np.log(law / model)).sum(1).mean()
    assert record.metrics["excess_loss"] == pytest.approx(expected, rel=1e-5 if precision == "float32" else 1e-12)
    assert expected > 0


def test_without_the_teacher_or_a_model_there_is_no_answer():
    with pytest.raises(InputError, match="expected the dataset 'teacher', found 'digits'"):
        recipe = replace(RECIPE, data=DataConfig(n=64))
        measure_excess_loss(
            MeasureContext(train(recipe, device="cpu").model, (), (), prepare_examples(recipe.data, 0), recipe)
        )
    with pytest.raises(InputError, match="expected a trial with a recipe"):
        measure_excess_loss(MeasureContext(None, (), (), prepare_examples(RECIPE.data, 0), RECIPE))
