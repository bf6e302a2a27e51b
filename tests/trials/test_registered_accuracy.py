"""The registered accuracy on augmented images, against images moved one by one."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlptheory.base.errors import InputError
from mlptheory.base.random import key, uniform
from mlptheory.data import pixel_permutation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.trials import MeasureContext
from mlptheory.trials.registered import measures

RECIPE = Recipe(
    data=DataConfig(n=200, split_seed=2, pixel_permutation=1),
    model=ModelConfig(name="S-1/Wi-16", dropout=0.3),
    optimizer=OptimizerConfig(name="sgd", lr=0.05),
    budget=BudgetConfig(amount=5, batch_size=16),
    precision="float32",
)


@pytest.fixture(scope="module")
def trained():
    return train(RECIPE, device="cpu")


def _context(model, recipe=RECIPE):
    return MeasureContext(model, (), (), prepare_examples(recipe.data, recipe.seed), recipe)


def test_each_image_is_moved_once_by_draws_of_the_split(trained):
    found = measures["accuracy_under"](_context(trained.model), name="moved", shift=2, flip=True)
    examples = prepare_examples(RECIPE.data, RECIPE.seed)
    seed, permutation = key(2, "accuracy under"), pixel_permutation(1, (1, 8, 8)).numpy()
    model, correct = copy.deepcopy(trained.model).double(), 0
    for index in range(600):
        image = examples.test.images[index, 0].numpy() / 255
        image = (image - examples.normalization.mean[0]) / examples.normalization.std[0]
        if uniform(seed, "flip", 0, np.array([index]), 1)[0, 0] < 0.5:
            image = image[:, ::-1]
        down, right = (math.floor(5 * draw) - 2 for draw in uniform(seed, "shift", 0, np.array([index]), 2)[0])
        moved = np.zeros((8, 8))
        for row in range(max(0, down), min(8, 8 + down)):
            for column in range(max(0, right), min(8, 8 + right)):
                moved[row, column] = image[row - down, column - right]
        with torch.no_grad():
            logits = model(torch.from_numpy(moved.flatten()[permutation]).view(1, 1, 8, 8))
        correct += logits.argmax().item() == examples.test.labels[index].item()
    assert found == {"accuracy_under_moved": correct / 600}
    assert found["accuracy_under_moved"] < trained.evaluations["test"].top1


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_with_nothing_done_it_is_the_test_accuracy(precision):
    recipe = replace(RECIPE, precision=precision)
    trained = train(recipe, device="cpu")
    found = measures["accuracy_under"](_context(trained.model, recipe), name="nothing")
    assert found == {"accuracy_under_nothing": trained.evaluations["test"].top1}


def test_every_net_of_a_split_sees_the_same_images(trained):
    def measured(**changes):
        recipe = replace(RECIPE, **changes)
        return measures["accuracy_under"](_context(trained.model, recipe), name="crop", crop_scale=[0.3, 0.9])

    assert measured(seed=9) == measured()
    assert measured(data=replace(RECIPE.data, split_seed=3)) != measured()


def test_the_model_comes_back_in_its_mode(trained):
    model = copy.deepcopy(trained.model).train()
    measures["accuracy_under"](_context(model), name="flip", flip=True)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"name": "a", "mixup": 0.5}, r"accuracy_under\.mixup = 0\.5: expected 0"),
        ({"name": "a b"}, r"accuracy_under\.name = 'a b'"),
        ({"name": ""}, r"accuracy_under\.name = ''"),
        ({"name": 3}, r"accuracy_under\.name = 3"),
        ({"name": "a", "flips": True}, "did you mean 'flip'"),
        ({"name": "a", "shift": -1}, "shift = -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(trained, parameters, message):
    with pytest.raises(InputError, match=message):
        measures["accuracy_under"](_context(trained.model), **parameters)


def test_it_needs_a_trained_model():
    with pytest.raises(InputError, match="measure = 'accuracy_under': expected a trial with a recipe"):
        measures["accuracy_under"](_context(None), name="a")
