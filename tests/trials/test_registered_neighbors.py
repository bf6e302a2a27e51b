"""The registered nearest neighbors, against a vote counted by hand."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base.errors import InputError
from mlptheory.base.random import uniform
from mlptheory.data import load, pixel_permutation, subset
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.training import build_recipe_model as build
from mlptheory.trials import MeasureContext, Measurement, Schedule, Trial, run_trial
from mlptheory.trials.registered import measures
from mlptheory.trials.run import Task

RECIPE = Recipe(
    data=DataConfig(n=90, split_seed=2, pixel_permutation=1),
    model=ModelConfig(name="B-1/Wi-8"),
    optimizer=OptimizerConfig(name="sgd", lr=0.05),
    budget=BudgetConfig(amount=3, batch_size=16),
    precision="float64",
)


def _context(model, recipe, parents=()):
    return MeasureContext(model, parents, (), prepare_examples(recipe.data, recipe.seed), recipe)


def _drawn(count, size):
    draws = uniform(2, "measured examples", 0, np.arange(size), 1)[:, 0]
    return torch.from_numpy(np.argsort(draws)[:count])


def _images(dataset, normalization):
    pixels = (dataset.images.flatten(1).double() / 255 - normalization.mean[0]) / normalization.std[0]
    return pixels[:, pixel_permutation(1, (1, 8, 8))].view(-1, 1, 8, 8)


def _accuracy(train_points, train_labels, test_points, test_labels, k):
    right = 0
    for point, label in zip(test_points, test_labels, strict=True):
        near = np.argsort(((train_points - point) ** 2).sum(axis=1), kind="stable")[:k]
        votes = Counter(train_labels[near].tolist())
        right += min(votes, key=lambda each: (-votes[each], each)) == label
    return right / len(test_points)


def _features(model, images):
    model = copy.deepcopy(model).eval()
    model.head = nn.Identity()
    with torch.no_grad():
        return model(images).numpy()


@pytest.mark.parametrize("labels", [{}, {"shuffle_labels": True}, {"label_noise": 0.5}])
@pytest.mark.parametrize(("k", "count"), [(1, 2000), (3, 40)])
def test_the_accuracies_are_those_of_votes_by_true_labels(labels, k, count):
    recipe = replace(RECIPE, data=replace(RECIPE.data, **labels))
    model = train(recipe, device="cpu").model
    found = measures["neighbors"](_context(model, recipe), k=k, examples=count)
    clean, test = subset(load("digits", "train"), 90, seed=2), load("digits", "test")
    clean, test = clean.select(_drawn(count, 90)), test.select(_drawn(count, 600))
    normalization = prepare_examples(RECIPE.data, 0).normalization
    images = _images(clean, normalization), _images(test, normalization)
    before = build(recipe, prepare_examples(recipe.data, recipe.seed)).double()
    points = {
        "neighbor_accuracy": [_features(model, each) for each in images],
        "neighbor_accuracy_initial": [_features(before, each) for each in images],
        "neighbor_accuracy_pixels": [each.images.flatten(1).numpy().astype(int) for each in (clean, test)],
    }
    expected = {
        name: _accuracy(near, clean.labels.numpy(), far, test.labels.numpy(), k) for name, (near, far) in points.items()
    }
    assert found == expected
    assert len(set(found.values())) > 1


def test_the_initial_features_are_the_parents_where_training_started_there():
    parent = train(RECIPE, device="cpu").model
    recipe = replace(RECIPE, start="body", seed=3)
    found = measures["neighbors"](_context(parent, recipe, (parent,)), examples=50)
    assert found["neighbor_accuracy"] == found["neighbor_accuracy_initial"]
    with pytest.raises(InputError, match="measure = 'neighbors': expected a parent, whose weights"):
        measures["neighbors"](_context(parent, recipe), examples=50)


def _run(recipe, *names, data_root=None):
    """Return the metrics of a trial with these measures."""
    task = Task(
        trial=Trial(recipe=recipe, measures=tuple(Measurement(name=name) for name in names)),
        digest="d",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision="float32", groups=()),
        data_root=data_root,
        checkpoint=None,
        keep_weights=False,
    )
    return run_trial(task)[0].metrics


def test_true_labels_are_looked_up_where_the_trials_data_are(monkeypatch, tmp_path):
    roots = []

    def prepare(config, seed, root):
        roots.append(root)
        return prepare_examples(config, seed, root)

    monkeypatch.setattr("mlptheory.trials.registered_neighbors.prepare_examples", prepare)
    _run(RECIPE, "neighbors", data_root=str(tmp_path))
    assert roots == [], "labels that are true already are not looked up"
    _run(replace(RECIPE, data=replace(RECIPE.data, shuffle_labels=True)), "neighbors", data_root=str(tmp_path))
    assert roots == [str(tmp_path)]


def test_a_trial_of_a_convolutional_network_records_it():
    recipe = replace(RECIPE, model=ModelConfig(name="CNN-1/Wi-2"), precision="float32")
    metrics = _run(recipe, "neighbors", "invariance")
    assert 0 <= metrics["neighbor_accuracy_initial"] <= 1 and metrics["flip_error_features"] > 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"examples": 0}, "examples = 0"), ({"k": 0}, "k = 0"), ({"k": 91}, "k = 91: expected at most 90")],
)
def test_what_cannot_be_measured_is_refused(parameters, message):
    model = build(RECIPE, prepare_examples(RECIPE.data, 0))
    with pytest.raises(InputError, match=message):
        measures["neighbors"](_context(model, RECIPE), **parameters)


def test_it_needs_a_trained_model():
    with pytest.raises(InputError, match="measure = 'neighbors': expected a trial with a recipe"):
        measures["neighbors"](_context(None, RECIPE))
