"""The same run from images in memory and from a store: the same bits."""

import dataclasses

import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Augmentation, StoreWriter, load
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Recipe, prepare_examples, train, train_ensemble
from mlptheory.training.examples import data_digest

RECIPE = Recipe(
    data=DataConfig(name="tiny"),
    model=ModelConfig(name="B-1/Wi-16"),
    augmentation=Augmentation(crop_scale=(0.3, 1.0), flip=True, mixup=0.5),
    budget=BudgetConfig(amount=2, batch_size=8),
    precision="float32",
)


@pytest.fixture
def name(tmp_path):
    for split in ("train", "test"):
        dataset = load("tiny", split)
        with StoreWriter(tmp_path / f"{split}.store", classes=dataset.classes, name="tiny", split=split) as writer:
            writer.append(dataset.images, dataset.labels)
            writer.finish()
    return f"store:{tmp_path}"


def of(recipe, **data):
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **data))


def equal(one, other):
    assert one.history == other.history
    weights = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)
    assert {split: (found.loss, found.top1) for split, found in one.evaluations.items()} == {
        split: (found.loss, found.top1) for split, found in other.evaluations.items()
    }


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"order": "quasi-random"},
        {"validation": 9, "n": 20, "label_noise": 0.4},
        {"pixel_permutation": 1, "permute": "before"},
    ],
)
def test_a_run_does_not_depend_on_where_the_images_are(name, data):
    equal(train(of(RECIPE, **data), device="cpu"), train(of(RECIPE, name=name, **data), device="cpu"))


def test_an_ensemble_of_a_store(name):
    recipes = [dataclasses.replace(RECIPE, seed=seed) for seed in range(2)]
    here = train_ensemble(recipes, device="cpu")
    there = train_ensemble([of(recipe, name=name) for recipe in recipes], device="cpu")
    for one, other in zip(here, there, strict=True):
        equal(one, other)


def test_a_head_on_images_of_a_store(name):
    recipe = dataclasses.replace(RECIPE, trained="head", augmentation=Augmentation())
    equal(train(recipe, device="cpu"), train(of(recipe, name=name), device="cpu"))


def test_what_is_known_of_the_data_is_the_same(name):
    assert data_digest(name) == data_digest("tiny")
    for data in ({}, {"n": 20}):
        here, there = (prepare_examples(DataConfig(name=each, **data), seed=0) for each in ("tiny", name))
        assert here.normalization == there.normalization
        assert here.train.digest == there.train.digest


def test_orders_differ_and_are_named(name):
    quasi, random = (train(of(RECIPE, order=order), device="cpu").history for order in ("quasi-random", "random"))
    assert quasi != random
    with pytest.raises(InputError, match=r"data\.order = 'quasi'"):
        DataConfig(order="quasi")
