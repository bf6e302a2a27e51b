"""Registered measures and observers of curvature, noise and speed, against what is computed by hand beside them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlptheory.base.errors import InputError
from mlptheory.base.random import uniform
from mlptheory.data import Augmentation, Loader, pixel_permutation
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    TestTimeAugmentation,
    observers,
    prepare_examples,
    train,
    train_ensemble,
)
from mlptheory.trials import MeasureContext, Measurement, Schedule, Trial, run_trial
from mlptheory.trials.registered import measures
from mlptheory.trials.run import Task

RECIPE = Recipe(
    data=DataConfig(n=96, pixel_permutation=3),
    model=ModelConfig(name="S-1/Wi-4", dropout=0.1),
    optimizer=OptimizerConfig(lr=6e-3),
    budget=BudgetConfig(amount=6, batch_size=16),
    precision="float32",
)
# Labels smoothed by 0.3 have this entropy, and no model less loss; at chance it is log 10.
LEAST = -(0.73 * math.log(0.73) + 9 * 0.03 * math.log(0.03))
TARGET = LEAST + 0.88 * (math.log(10) - LEAST)
NEAR = (3 * TARGET + math.log(10)) / 4
SHARPNESS = Observer(name="sharpness", parameters=(("remaining", 0.88), ("examples", 20)))


def _measured_images(recipe, count):
    """Return inputs and labels of the measured examples, from the dataset's bytes, in float64."""
    examples = prepare_examples(recipe.data, recipe.seed)
    draws = uniform(recipe.data.split_seed, "measured examples", 0, np.arange(len(examples.train)), 1)[:, 0]
    chosen = torch.from_numpy(np.argsort(draws)[:count])
    pixels = examples.train.images[chosen].flatten(1).double() / 255
    pixels = (pixels - examples.normalization.mean[0]) / examples.normalization.std[0]
    return pixels[:, pixel_permutation(3, (1, 8, 8))].view(-1, 1, 8, 8), examples.train.labels[chosen]


def _objective(model, recipe, count):
    """Return the smoothed loss as a function of all parameters in one vector, and the vector, in float64."""
    inputs, labels = _measured_images(recipe, count)
    model = copy.deepcopy(model).double().eval()
    sizes = [p.numel() for p in model.parameters()]
    target = torch.full((len(labels), 10), 0.03, dtype=torch.float64)
    target[torch.arange(len(labels)), labels] += 0.7
    is_squared = recipe.loss == "squared_error"

    def value(flat):
        parts = zip(model.named_parameters(), flat.split(sizes), strict=True)
        logits = torch.func.functional_call(model, {name: part.view_as(p) for (name, p), part in parts}, inputs)
        if is_squared:
            return 0.5 * ((logits - target) ** 2).sum(dim=1)
        return -(target * logits.log_softmax(dim=1)).sum(dim=1)

    return value, torch.cat([p.detach().flatten() for p in model.parameters()])


def _dense_top(model, recipe, count):
    value, at = _objective(model, recipe, count)
    hessian = torch.autograd.functional.hessian(lambda flat: value(flat).mean(), at)
    return torch.linalg.eigvalsh(hessian)[-1].item()


@pytest.fixture(scope="module")
def trained():
    return train(RECIPE, [SHARPNESS], device="cpu")


def _context(trained, recipe=RECIPE):
    return MeasureContext(trained.model, (), (), prepare_examples(recipe.data, recipe.seed), recipe)


@pytest.mark.parametrize("examples", [1, 20, 1000])
def test_the_top_eigenvalue_is_that_of_the_training_objective(trained, examples):
    found = measures["hessian_top_eigenvalue"](_context(trained), examples=examples)
    expected = _dense_top(trained.model, RECIPE, min(examples, 96))
    assert found == {"hessian_top_eigenvalue": pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize("examples", [5, 50, 1000])
def test_the_noise_scale_is_that_of_the_training_objective(trained, examples):
    found = measures["gradient_noise_scale"](_context(trained), examples=examples)
    value, at = _objective(trained.model, RECIPE, min(examples, 96))
    rows = torch.autograd.functional.jacobian(value, at).numpy()
    trace = np.cov(rows, rowvar=False).trace()
    squared = (rows.mean(axis=0) ** 2).sum() - trace / len(rows)
    # Inputs are those the float32 model sees, to which |G|² as a difference of large numbers is sensitive.
    expected = trace / squared if squared > 0 else math.inf
    assert found["noise_scale"] == pytest.approx(expected, rel=1e-4)
    assert 0 <= found["noise_scale_low"] <= found["noise_scale"] <= found["noise_scale_high"]


def test_a_squared_error_is_measured_as_such(trained):
    recipe = replace(RECIPE, loss="squared_error")
    context = _context(trained, recipe)
    found = measures["hessian_top_eigenvalue"](context, examples=20)
    assert found == {"hessian_top_eigenvalue": pytest.approx(_dense_top(trained.model, recipe, 20), rel=1e-4)}
    value, at = _objective(trained.model, recipe, 20)
    rows = torch.autograd.functional.jacobian(value, at).numpy()
    trace = np.cov(rows, rowvar=False).trace()
    noise = measures["gradient_noise_scale"](context, examples=20)["noise_scale"]
    assert noise == pytest.approx(trace / ((rows.mean(axis=0) ** 2).sum() - trace / 20), rel=1e-4)
    examples = prepare_examples(recipe.data, recipe.seed)
    inputs = next(
        Loader(
            examples.test,
            batch_size=600,
            seed=0,
            normalization=examples.normalization,
            pixel_permutation=3,
            shuffle=False,
        ).batches(epoch=0)
    ).inputs
    with torch.no_grad():
        logits = trained.model(inputs).double().numpy()
    expected = 0.5 * ((logits - np.eye(10)[examples.test.labels]) ** 2).sum(axis=1).mean()
    views = measures["test_time_augmentation"](context, views=1, crop_scale=[1.0, 1.0])
    assert views["tta_loss"] == pytest.approx(expected, rel=1e-6)


def test_what_is_defined_for_cross_entropy_alone_refuses_other_losses(trained):
    recipe = replace(RECIPE, loss="squared_error")
    message = "expected a recipe whose loss is 'cross_entropy', found 'squared_error'"
    with pytest.raises(InputError, match=f"observer = 'sharpness': {message}"):
        train(recipe, [SHARPNESS], device="cpu")
    teacher = replace(recipe, data=replace(recipe.data, name="teacher"))
    with pytest.raises(InputError, match=f"measure = 'excess_loss': {message}"):
        measures["excess_loss"](replace(_context(trained), recipe=teacher))


def test_which_examples_are_measured_depends_on_neither_the_run_nor_their_labels(trained):
    same = replace(RECIPE, seed=5)
    measure = measures["hessian_top_eigenvalue"]
    assert measure(_context(trained), examples=20) == measure(_context(trained, same), examples=20)
    other = replace(RECIPE, data=replace(RECIPE.data, split_seed=1))
    assert measure(_context(trained), examples=20) != measure(_context(trained, other), examples=20)


def test_measures_are_recorded_by_a_trial_and_what_is_not_finite_as_none():
    task = Task(
        trial=Trial(
            recipe=RECIPE,
            measures=(
                Measurement(name="hessian_top_eigenvalue", parameters=(("examples", 20),)),
                Measurement(name="gradient_noise_scale", parameters=(("examples", 4),)),
            ),
        ),
        digest="d",
        parent_digests=(),
        parent_weights=(),
        schedule=Schedule(device="cpu", threads=1, precision="float32", groups=()),
        data_root=None,
        checkpoint=None,
        keep_weights=False,
    )
    metrics = run_trial(task)[0].metrics
    assert metrics["hessian_top_eigenvalue"] > 0
    assert metrics["noise_scale_high"] is None and metrics["noise_scale_low"] is not None


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_views_are_averaged_on_the_test_images_as_they_were_trained_on(trained, average):
    """The mean over views, one by one, of the model's own answers: for logits and for probabilities."""
    views = {"views": 3, "crop_scale": [0.5, 1.0], "average": average, "seed": 4}
    found = measures["test_time_augmentation"](_context(trained), **views)
    examples, seen = prepare_examples(RECIPE.data, 0), []
    for view in range(3):
        loader = Loader(
            examples.test,
            batch_size=600,
            seed=TestTimeAugmentation(seed=4).loader_seed,
            augmentation=Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(1.0, 1.0)),
            normalization=examples.normalization,
            pixel_permutation=3,
            shuffle=False,
        )
        with torch.no_grad():
            logits = trained.model(next(loader.batches(epoch=view)).inputs).double()
        seen.append(logits if average == "logits" else logits.softmax(dim=1))
    mean = torch.stack(seen).mean(dim=0)
    hits = mean.topk(5, dim=1).indices == examples.test.labels[:, None]
    chosen = mean.log_softmax(dim=1) if average == "logits" else mean.log()
    loss = -chosen[torch.arange(600), examples.test.labels].mean().item()
    assert found["tta_accuracy"] == hits[:, 0].double().mean().item()
    assert found["tta_top5"] == pytest.approx(hits.any(dim=1).double().mean().item(), rel=1e-12)
    assert found["tta_loss"] == pytest.approx(loss, rel=1e-12)


def test_views_that_cannot_be_are_refused_by_name(trained):
    with pytest.raises(InputError, match=r"did you mean 'views'"):
        measures["test_time_augmentation"](_context(trained), view=3)
    with pytest.raises(InputError, match="average = 'logit'"):
        measures["test_time_augmentation"](_context(trained), average="logit")


@pytest.mark.parametrize("measure", ["hessian_top_eigenvalue", "gradient_noise_scale"])
def test_a_measure_of_a_trained_model_needs_one(trained, measure):
    with pytest.raises(InputError, match=f"measure = '{measure}': expected a trial with a recipe"):
        measures[measure](replace(_context(trained), model=None))
    with pytest.raises(InputError, match="examples = 0"):
        measures[measure](_context(trained), examples=0)


def _rows(trained, quantity):
    return {epoch: value for _, epoch, name, value in trained.history if name == quantity}


def test_sharpness_is_seen_until_the_target_and_interpolated_there():
    seen = {}

    @observers.register("spy")
    def spy(state):
        value, at = _objective(state.model, RECIPE, 20)
        names = ("embedding.weight", "embedding.bias")
        norm = sum(state.model.get_parameter(name).detach().double().square().sum().item() for name in names)
        top = _dense_top(state.model, RECIPE, 20)
        seen[state.epoch] = (value(at).mean().item(), top, norm * top)
        return {}

    trained = train(RECIPE, [SHARPNESS, Observer(name="spy")], device="cpu")
    names = ("sharpness_loss", "sharpness", "norm_weighted_sharpness")
    crossing = next(epoch for epoch, (loss, *_) in seen.items() if loss <= TARGET)
    assert 1 < crossing < 6
    for index, name in enumerate(names):
        found = _rows(trained, name)
        measured = [epoch for epoch in range(1, crossing + 1) if index == 0 or seen[epoch][0] <= NEAR]
        assert list(found) == measured and len(measured) > 1
        for epoch, value in found.items():
            assert value == pytest.approx(seen[epoch][index], rel=1e-4), (name, epoch)
    before, after = seen[crossing - 1], seen[crossing]
    for index, name in ((1, "sharpness_at_target"), (2, "norm_weighted_sharpness_at_target")):
        expected = math.exp(np.interp(-TARGET, [-before[0], -after[0]], np.log([before[index], after[index]])))
        assert _rows(trained, name) == {crossing: pytest.approx(expected, rel=1e-4)}


def test_sharpness_can_be_seen_within_an_epoch():
    trained = train(RECIPE, [replace(SHARPNESS, every="octave")], device="cpu")
    steps = [step for step, _, name, _ in trained.history if name == "sharpness"]
    assert len(steps) > 3 and any(step % 4 for step in steps)
    ((step, *_),) = [row for row in trained.history if row[2] == "sharpness_at_target"]
    assert step == steps[-1]


def test_a_member_of_an_ensemble_is_seen_as_a_run_of_its_own():
    looks = [
        replace(SHARPNESS, every="octave", parameters=(("remaining", 0.86), ("examples", 20))),
        Observer(name="steps_to_target", every="octave", parameters=(("accuracy", 0.15),)),
    ]
    recipes = [replace(RECIPE, seed=seed, precision="float64") for seed in (0, 1)]
    for recipe, member in zip(recipes, train_ensemble(recipes, looks, device="cpu"), strict=True):
        alone = train(recipe, looks, device="cpu")
        assert [row[:3] for row in member.history] == [row[:3] for row in alone.history]
        assert [row[3] for row in member.history] == pytest.approx([row[3] for row in alone.history], rel=1e-6)
        assert _rows(member, "sharpness_at_target") and _rows(member, "steps_to_target")


def test_where_the_first_look_is_below_the_target_there_is_no_value_at_it():
    look = replace(SHARPNESS, parameters=(("remaining", 0.999), ("examples", 20)))
    trained = train(RECIPE, [look], device="cpu")
    assert list(_rows(trained, "sharpness")) == [1]
    assert _rows(trained, "sharpness_at_target") == {}


def test_where_the_target_is_never_reached_there_is_no_value_at_it_and_none_before_training():
    recipe = replace(RECIPE, model=ModelConfig(name="B-1/Wi-4/E-1"))
    look = replace(SHARPNESS, every="doubling", parameters=(("remaining", 1e-3), ("examples", 20)))
    trained = train(recipe, [look], device="cpu")
    assert list(_rows(trained, "sharpness_loss")) == [1, 2, 4, 6]
    assert _rows(trained, "sharpness") == {}
    assert not any("at_target" in row[2] or "norm_weighted" in row[2] for row in trained.history)


def test_looking_at_sharpness_changes_nothing(trained):
    alone = train(RECIPE, device="cpu")
    assert _rows(trained, "sharpness")
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, trained.model.state_dict()[name]), name
    assert [row for row in trained.history if row[2].startswith("train_")] == list(alone.history)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("last_step", [7, 20, 26])
def test_an_interrupted_run_sees_what_it_would_have_seen(trained, tmp_path, last_step):
    def interrupt(step, total):
        if step > last_step:
            raise Interrupted

    arguments = {"device": "cpu", "checkpoint": tmp_path / "state.pt", "checkpoint_every_s": 0.0}
    with pytest.raises(Interrupted):
        train(RECIPE, [SHARPNESS], **arguments, on_step=interrupt)
    assert train(RECIPE, [SHARPNESS], **arguments).history == trained.history


def _looks(accuracies, steps, accuracy=0.5):
    """Return all rows that looks at these accuracies come to, and how many were evaluated."""
    history, evaluated = [], []
    for epoch, (now, step) in enumerate(zip(accuracies, steps, strict=True), start=steps[0] > 0):

        def evaluate(split, now=now):
            evaluated.append(split)
            return SimpleNamespace(top1=now)

        state = SimpleNamespace(evaluate=evaluate, step=step, epoch=epoch, history=tuple(history))
        seen = observers["steps_to_target"](state, accuracy=accuracy)
        history += [(step, epoch, name, value) for name, value in seen.items()]
    found = [row for row in history if row[2] == "steps_to_target"]
    assert evaluated == ["test"] * (len(history) - len(found))
    return [(epoch, value) for _, epoch, _, value in found], len(evaluated)


@pytest.mark.parametrize(
    ("accuracies", "steps", "rows", "evaluated"),
    [
        ((0.1, 0.3, 0.7, 0.8), (0, 10, 1000, 2000), [(2, 100.0)], 3),
        ((0.1, 0.3, 0.5, 0.4), (0, 10, 1000, 2000), [(2, 1000.0)], 3),
        ((0.0, 1.0, 0.2), (0, 10, 20), [(1, 5.0)], 2),
        ((0.3, 0.2, 0.6), (10, 20, 80), [(3, 20 * 4**0.75)], 3),
        ((0.6, 0.7), (0, 10), [(0, 0.0)], 1),
        ((0.6, 0.2, 0.7), (10, 20, 30), [], 1),
        ((0.1, 0.2, 0.499), (10, 20, 30), [], 3),
    ],
)
def test_steps_to_a_target_are_interpolated_and_no_look_follows(accuracies, steps, rows, evaluated):
    found, count = _looks(accuracies, steps)
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in rows]
    assert [value for _, value in found] == pytest.approx([value for _, value in rows])
    assert count == evaluated


def test_steps_to_a_target_in_training():
    looks = [
        Observer(name="evaluation", every="doubling"),
        Observer(name="steps_to_target", every="doubling", parameters=(("accuracy", 0.25),)),
    ]
    recipe = replace(RECIPE, model=ModelConfig(name="S-1/Wi-16"))
    trained = train(recipe, looks, device="cpu")
    accuracies, steps = _rows(trained, "test_accuracy"), {0: 0, 1: 6, 2: 12, 4: 24, 6: 36}
    assert list(accuracies) == list(steps)
    reached = next(epoch for epoch, value in accuracies.items() if value >= 0.25)
    assert _rows(trained, "steps_to_target_accuracy") == {e: a for e, a in accuracies.items() if e <= reached}
    ((epoch, value),) = _rows(trained, "steps_to_target").items()
    assert epoch == reached
    assert max(step for e, step in steps.items() if e < reached) < value <= steps[reached]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("sharpness", {"remaining": 0}, "remaining = 0"),
        ("sharpness", {"remaining": "1"}, "remaining = '1'"),
        ("sharpness", {"remaining": 0.5, "examples": 0}, "examples = 0"),
        ("steps_to_target", {"accuracy": 1.5}, "accuracy = 1.5"),
        ("steps_to_target", {"accuracy": 0.5, "split": "validation"}, "split = 'validation'"),
    ],
)
def test_what_cannot_be_is_refused_at_the_first_look(name, parameters, message):
    look = Observer(name=name, parameters=tuple(parameters.items()))
    with pytest.raises(InputError, match=message):
        train(RECIPE, [look], device="cpu")


def test_chance_is_that_of_the_predictions_on_the_test_set(trained):
    predictions = trained.evaluations["test"].predictions
    labels = prepare_examples(RECIPE.data, RECIPE.seed).test.labels.numpy()
    expected = np.mean([np.mean(predictions == label) for label in labels])
    assert measures["chance_accuracy"](_context(trained))["chance_accuracy"] == pytest.approx(expected, rel=1e-12)


def test_sharpness_is_not_interpolated_from_a_look_before_the_last(monkeypatch):
    """The loss comes near the target, bounces back above what is measured, and falls below the target at once."""
    losses = iter([TARGET + 1e-3, math.log(10) + 1, TARGET - 1e-3])

    class Found:
        values, converged = (2.0,), True

        def __init__(self, loss):
            self.loss = loss

    current = {}

    def value(*_):
        current["loss"] = next(losses)
        return current["loss"]

    monkeypatch.setattr("mlptheory.trials.registered.objective_value", value)
    monkeypatch.setattr("mlptheory.trials.registered.top_of_hessian", lambda *_: Found(current["loss"]))
    recipe = replace(RECIPE, budget=replace(RECIPE.budget, amount=3))
    found = train(recipe, [SHARPNESS], device="cpu")
    assert list(_rows(found, "sharpness_loss")) == [1, 2, 3]
    assert list(_rows(found, "sharpness")) == [1, 3]
    assert _rows(found, "sharpness_at_target") == {}
