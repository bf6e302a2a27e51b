"""The registered measure of the first layer, against loops over weights taken from the layer by name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlptheory.base.errors import InputError
from mlptheory.base.random import key
from mlptheory.data import pixel_permutation
from mlptheory.measures import gaussian_surrogates, shuffled_pixels
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.training import build_recipe_model as build
from mlptheory.trials import MeasureContext, Measurement, Schedule, Trial, run_trial
from mlptheory.trials.registered import measures
from mlptheory.trials.run import Task

RECIPE = Recipe(
    data=DataConfig(n=64),
    model=ModelConfig(name="S-1/Wi-5"),
    optimizer=OptimizerConfig(name="sgd", lr=0.05),
    budget=BudgetConfig(amount=2, batch_size=16),
    precision="float64",
)
SETS = ("weights", "change", "initial")


def _context(model, recipe, parents=()):
    return MeasureContext(model, parents, (), prepare_examples(recipe.data, recipe.seed), recipe)


def _measured(recipe, **parameters):
    model = train(recipe, device="cpu").model
    return model, measures["first_layer"](_context(model, recipe), **parameters)


def _weights(model, side=8):
    return model.embedding.weight.detach().double().numpy().reshape(-1, 1, side, side)


def _ipr(filter_):
    return sum(w**4 for w in filter_.flatten()) / sum(w**2 for w in filter_.flatten()) ** 2


def _spread(filter_, toroidal):
    """The least mean squared distance to a center: on the torus over all centers that can be the least."""
    _, height, width = filter_.shape
    shares = (filter_**2).sum(axis=0)
    shares = shares / shares.sum()
    total = 0.0
    for along, size in ((shares.sum(axis=1), height), (shares.sum(axis=0), width)):
        cuts = []
        for cut in range(size if toroidal else 1):
            places = np.array([(place - cut) % size for place in range(size)], dtype=float)
            mean = sum(along * places)
            cuts.append(sum(along * (places - mean) ** 2))
        total += min(cuts)
    return total


def _local(filter_, window, toroidal):
    _, height, width = filter_.shape
    energy = (filter_**2).sum(axis=0)
    best = 0.0
    for top in range(height if toroidal else height - window + 1):
        for left in range(width if toroidal else width - window + 1):
            square = [
                energy[(top + down) % height, (left + right) % width]
                for down in range(window)
                for right in range(window)
            ]
            best = max(best, sum(square))
    return best / energy.sum()


def _expected(filters, name, seed, window=2, toroidal=False, draws=10):
    """All figures of one set of filters, one filter and one draw after another."""
    filters = np.array([each for each in filters if np.abs(each).max() > 0])
    references = {"": [filters], "_gaussian": [], "_shuffled": []}
    for draw in range(draws):
        own = key(seed, f"references of {name}", draw)
        references["_gaussian"].append(gaussian_surrogates(torch.from_numpy(filters), len(filters), own).numpy())
        references["_shuffled"].append(shuffled_pixels(torch.from_numpy(filters), own).numpy())
    found = {}
    for suffix, several in references.items():
        each = [one for drawn in several for one in drawn]
        if suffix != "_shuffled":
            found[f"{name}_ipr{suffix}"] = np.mean([_ipr(one) for one in each])
        found[f"{name}_spread{suffix}"] = np.mean([_spread(one, toroidal) for one in each])
        found[f"{name}_local_share{suffix}"] = np.mean([_local(one, window, toroidal) for one in each])
    return found


@pytest.mark.parametrize(
    "parameters", [{}, {"window": 3, "draws": 3}, {"toroidal": True, "draws": 2}], ids=["default", "window", "torus"]
)
def test_the_figures_are_those_of_loops(parameters):
    model, found = _measured(RECIPE, **parameters)
    now = _weights(model)
    before = _weights(build(RECIPE, prepare_examples(RECIPE.data, RECIPE.seed)))
    filters = {"weights": now, "change": now - before, "initial": before}
    expected = {}
    for name in SETS:
        expected |= _expected(filters[name], name, RECIPE.seed, **parameters)
    assert found == {name: pytest.approx(value, rel=1e-10) for name, value in expected.items()}
    assert len(found) == 24


@pytest.mark.parametrize("permute", ["after", "before"])
@pytest.mark.parametrize("image_size", [None, 8])
def test_a_pixel_permutation_is_undone(permute, image_size):
    """Training on permuted pixels from permuted weights ends at permuted weights, whose filters are the same."""
    recipe = replace(RECIPE, data=replace(RECIPE.data, pixel_permutation=5, permute=permute, image_size=image_size))
    model, found = _measured(recipe)
    permutation = pixel_permutation(5, (1, 8, 8)).numpy()
    before = build(recipe, prepare_examples(recipe.data, recipe.seed))
    seen = {"weights": _weights(model), "initial": _weights(before)}
    seen["change"] = seen["weights"] - seen["initial"]
    for name, filters in seen.items():
        placed = np.zeros_like(filters).reshape(5, 64)
        for place, pixel in enumerate(permutation):
            placed[:, pixel] = filters.reshape(5, 64)[:, place]
        for quantity, value in _expected(placed.reshape(5, 1, 8, 8), name, recipe.seed).items():
            assert found[quantity] == pytest.approx(value, rel=1e-10)


def test_a_permuted_pixel_counts_where_it_is_in_the_image():
    """A net that looks at one column of the image alone has that column's spread, whatever it was given."""
    recipe = replace(RECIPE, data=replace(RECIPE.data, pixel_permutation=5))
    model = build(recipe, prepare_examples(recipe.data, 0)).double()
    column = torch.zeros(8, 8, dtype=torch.float64)
    column[:, 2] = 1
    with torch.no_grad():
        model.embedding.weight.copy_(column.flatten()[pixel_permutation(5, (1, 8, 8))].expand(5, -1))
    found = measures["first_layer"](_context(model, recipe))
    assert found["weights_spread"] == pytest.approx((8**2 - 1) / 12, rel=1e-12)
    assert found["weights_local_share"] == pytest.approx(2 / 8, rel=1e-12)
    assert found["weights_ipr"] == pytest.approx(1 / 8, rel=1e-12)


def test_units_that_did_not_move_are_left_out():
    before = build(RECIPE, prepare_examples(RECIPE.data, 0)).double()
    model = build(RECIPE, prepare_examples(RECIPE.data, 0)).double()
    moved = np.zeros((5, 1, 8, 8))
    moved[1, 0, 3, 4], moved[1, 0, 3, 5], moved[4, 0, 0, 0] = 1.0, 1.0, 2.0
    with torch.no_grad():
        model.embedding.weight += torch.from_numpy(moved.reshape(5, 64))
    now = _weights(model) - _weights(before)
    now[np.abs(now) < 0.5] = 0
    found = measures["first_layer"](_context(model, RECIPE))
    assert found["change_ipr"] == pytest.approx((0.5 + 1.0) / 2, rel=1e-12)
    for quantity, value in _expected(now, "change", RECIPE.seed).items():
        assert found[quantity] == pytest.approx(value, rel=1e-9)


def test_where_nothing_moved_there_is_no_change_to_judge():
    model = build(RECIPE, prepare_examples(RECIPE.data, 0)).double()
    found = measures["first_layer"](_context(model, RECIPE))
    assert [name for name, value in found.items() if math.isnan(value)] == [
        name for name in found if name.startswith("change_")
    ]
    assert found["weights_ipr"] == found["initial_ipr"]


@pytest.mark.parametrize("start", ["parent", "body"])
def test_change_is_from_the_parents_weights_where_training_started_there(start):
    parent = train(RECIPE, device="cpu").model
    recipe = replace(RECIPE, start=start, seed=4)
    model = train(recipe, device="cpu", start_weights=parent.state_dict()).model
    found = measures["first_layer"](_context(model, recipe, (parent,)), draws=1)
    change = _weights(model) - _weights(parent)
    assert np.abs(change).max() > 0
    assert found["change_ipr"] == pytest.approx(np.mean([_ipr(one) for one in change]), rel=1e-10)
    with pytest.raises(InputError, match="measure = 'first_layer': expected a parent, whose weights"):
        measures["first_layer"](_context(model, recipe))


def test_the_window_is_a_quarter_of_the_inputs_side():
    recipe = replace(RECIPE, data=replace(RECIPE.data, image_size=16))
    model = build(recipe, prepare_examples(recipe.data, 0)).double()
    found = measures["first_layer"](_context(model, recipe), draws=1)
    expected = np.mean([_local(one, 4, False) for one in _weights(model, 16)])
    assert found["weights_local_share"] == pytest.approx(expected, rel=1e-12)


def test_a_trial_records_it_with_no_value_for_what_did_not_move():
    trial = Trial(
        recipe=replace(RECIPE, trained="head", precision="auto"),
        measures=(Measurement(name="first_layer", parameters=(("draws", 1),)),),
    )
    task = Task(
        trial=trial,
        digest="d",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision="float32", groups=()),
        data_root=None,
        checkpoint=None,
        keep_weights=False,
    )
    metrics = run_trial(task)[0].metrics
    assert metrics["change_ipr"] is None and metrics["weights_ipr"] == metrics["initial_ipr"] > 1 / 64


@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        ({"model": ModelConfig(name="CNN-1/Wi-4")}, {}, r"'first_layer', model\.name = 'CNN-1/Wi-4'.*dense"),
        (
            {"data": DataConfig(image_size=12, pixel_permutation=1, permute="before")},
            {},
            r"'first_layer': data\.permute = 'before', data\.image_size = 12",
        ),
        ({}, {"draws": 0}, "draws = 0"),
        ({}, {"window": 9}, "window = 9"),
        ({}, {"toroidal": 1}, "toroidal = 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(change, parameters, message):
    recipe = replace(RECIPE, **change)
    model = build(recipe, prepare_examples(recipe.data, 0)).double()
    with pytest.raises(InputError, match=message):
        measures["first_layer"](_context(model, recipe), **parameters)


def test_it_needs_a_trained_model():
    with pytest.raises(InputError, match="measure = 'first_layer': expected a trial with a recipe"):
        measures["first_layer"](_context(None, RECIPE))
