"""The registered invariance errors, against all pairs of images one by one."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.data import pixel_permutation
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.training import build_recipe_model as build
from mlptheory.trials import MeasureContext
from mlptheory.trials.registered import measures

MLP = Recipe(
    data=DataConfig(n=64),
    model=ModelConfig(name="S-1/Wi-6", dropout=0.2),
    optimizer=OptimizerConfig(name="sgd", lr=0.05),
    budget=BudgetConfig(amount=2, batch_size=16),
    precision="float64",
)
CNN = replace(MLP, model=ModelConfig(name="CNN-1/Wi-2"))
PERMUTED = replace(MLP, data=replace(MLP.data, pixel_permutation=7))
EARLY = replace(MLP, data=replace(MLP.data, pixel_permutation=7, permute="before", image_size=8))


def _context(model, recipe):
    return MeasureContext(model, (), (), prepare_examples(recipe.data, recipe.seed), recipe)


def _images(recipe, count):
    examples = prepare_examples(recipe.data, recipe.seed)
    pixels = examples.test.images[:count].double() / 255
    return (pixels - examples.normalization.mean[0]) / examples.normalization.std[0]


def _moved(images, down, right, cyclic):
    """Each pixel of each image taken to its new place, if it has one."""
    moved = torch.zeros_like(images)
    for row in range(8):
        for column in range(8):
            to = row + down, column + right
            if cyclic:
                to = to[0] % 8, to[1] % 8
            if 0 <= to[0] < 8 and 0 <= to[1] < 8:
                moved[..., to[0], to[1]] = images[..., row, column]
    return moved


def _answers(model, images, permutation_seed, features):
    model = copy.deepcopy(model).eval()
    if features:
        model.head = nn.Identity()
    if permutation_seed is not None:
        images = images.flatten(1)[:, pixel_permutation(permutation_seed, (1, 8, 8))].view(-1, 1, 8, 8)
    with torch.no_grad():
        return model(images).flatten(1).numpy()


def _error(own, moved):
    n = len(own)
    distances = [[((moved[i] - own[j]) ** 2).sum() for j in range(n)] for i in range(n)]
    itself = np.mean([distances[i][i] for i in range(n)])
    return itself / np.mean([distances[i][j] for i in range(n) for j in range(n) if i != j])


@pytest.mark.parametrize("recipe", [MLP, CNN, PERMUTED, EARLY], ids=["MLP", "CNN", "permuted", "permuted early"])
@pytest.mark.parametrize(("shift", "mode"), [(1, "zero"), (3, "cyclic")])
def test_the_errors_are_those_of_all_pairs(recipe, shift, mode):
    model = train(recipe, device="cpu").model
    found = measures["invariance"](_context(model, recipe), shift=shift, shift_mode=mode, examples=20)
    images, expected = _images(recipe, 20), {}
    for name in ("logits", "features"):
        own = _answers(model, images, recipe.data.pixel_permutation, name == "features")

        def error(moved, name=name, own=own):
            return _error(own, _answers(model, moved, recipe.data.pixel_permutation, name == "features"))

        mirrored = torch.stack([images[..., 7 - column] for column in range(8)], dim=-1)
        expected[f"flip_error_{name}"] = error(mirrored)
        ways = [(shift, 0), (-shift, 0), (0, shift), (0, -shift)]
        expected[f"shift_error_{name}"] = np.mean([error(_moved(images, *way, mode == "cyclic")) for way in ways])
    assert found == {name: pytest.approx(value, rel=1e-9) for name, value in expected.items()}


def test_a_net_that_sees_the_mean_pixel_alone_is_invariant():
    model = build(MLP, prepare_examples(MLP.data, 0)).double()
    with torch.no_grad():
        model.embedding.weight.copy_(torch.ones(6, 64) * torch.arange(1.0, 7)[:, None])
    found = measures["invariance"](_context(model, MLP), shift=2, shift_mode="cyclic")
    assert max(found.values()) < 1e-20


def test_only_so_many_images_count_and_all_of_them_by_default():
    model = train(MLP, device="cpu").model
    few, all_of_them, more = (
        measures["invariance"](_context(model, MLP), **options)
        for options in ({"examples": 599}, {}, {"examples": 600})
    )
    assert few != all_of_them == more


def test_the_model_comes_back_as_it_was():
    model = build(CNN, prepare_examples(CNN.data, 0)).train()
    before = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()
    measures["invariance"](_context(model, CNN), examples=10)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not model.head._forward_pre_hooks


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shift": 8}, "shift = 8: expected less than 8 pixels"),
        ({"shift": 0}, "shift = 0"),
        ({"shift_mode": "reflect"}, "shift_mode = 'reflect'"),
        ({"examples": 1}, "examples = 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(parameters, message):
    model = build(MLP, prepare_examples(MLP.data, 0))
    with pytest.raises(InputError, match=message):
        measures["invariance"](_context(model, MLP), **parameters)


def test_what_has_no_places_no_head_or_no_model_is_refused():
    early = replace(MLP, data=replace(MLP.data, pixel_permutation=7, permute="before", image_size=9))
    model = build(early, prepare_examples(early.data, 0))
    with pytest.raises(InputError, match=r"'invariance': data\.permute = 'before', data\.image_size = 9"):
        measures["invariance"](_context(model, early))
    with pytest.raises(InputError, match="features: expected a model with a head, Sequential has none"):
        measures["invariance"](_context(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), MLP))
    with pytest.raises(InputError, match="measure = 'invariance': expected a trial with a recipe"):
        measures["invariance"](_context(None, MLP))


def test_a_head_that_is_called_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(x.flatten(1)) + self.head(x.flatten(1))

    with pytest.raises(InputError, match="called once, found 2 calls"):
        measures["invariance"](_context(Twice(), MLP))
