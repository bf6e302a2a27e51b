"""The observers of sharpness, against dense Hessians, closed forms and the exact invariance of ReLU nets."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlptheory.base.errors import InputError
from mlptheory.models import ModelConfig, build
from mlptheory.training import BudgetConfig, DataConfig, Observer, OptimizerConfig, Recipe, train, train_ensemble
from mlptheory.trials import registered, registered_edge  # noqa: F401, as importing registers
from mlptheory.trials.registered_edge import homogeneous_layers, rescale_layers

GD = OptimizerConfig(name="sgd", lr=0.3, momentum=0.0)
TANH = Recipe(
    data=DataConfig(n=24),
    model=ModelConfig(name="MLP-1/Wi-4", norm="none", activation="tanh"),
    optimizer=GD,
    budget=BudgetConfig(amount=6, unit="steps", batch_size=24),
    loss="squared_error",
    label_smoothing=0.0,
    precision="float64",
)
RELU = replace(
    TANH,
    model=ModelConfig(name="MLP-2/Wi-6", norm="none"),
    loss="cross_entropy",
    optimizer=OptimizerConfig(name="sgd", lr=0.2, momentum=0.0),
    budget=BudgetConfig(amount=400, unit="steps", batch_size=8),
)
EDGE = Observer(name="edge", every=1)
RESIDUAL = 1.1e-3
"""How far the eigenvalue may be off, relative to it: Lanczos's tolerance."""


def seen(trained, quantity):
    return {step: value for step, _, name, value in trained.history if name == quantity}


def trained_to(recipe, steps):
    return train(replace(recipe, budget=replace(recipe.budget, amount=steps)), device="cpu")


def dense_hessian(recipe, model):
    """The Hessian of the objective over all training examples, a row at a time, from the loss written anew."""
    from mlptheory.training import prepare_examples

    examples = prepare_examples(recipe.data, recipe.seed)
    images = examples.train.images.double() / 255
    inputs = ((images - examples.normalization.mean[0]) / examples.normalization.std[0]).flatten(1)
    targets = torch.nn.functional.one_hot(examples.train.labels, 10).double()
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(row):
        parts = dict(zip(names, row.split([shape.numel() for shape in shapes]), strict=True))
        z = inputs
        layers = sorted({name.rpartition(".")[0] for name in names})
        for layer in layers:
            own = [
                part.reshape(shapes[names.index(f"{layer}.{kind}")])
                for kind in ("weight", "bias")
                for part in [parts[f"{layer}.{kind}"]]
            ]
            z = z @ own[0].T + own[1]
            if layer != "head":
                z = torch.tanh(z) if recipe.model.activation == "tanh" else z.relu()
        if recipe.loss == "squared_error":
            return ((z - targets) ** 2).sum() / (2 * len(z))
        return -(targets * (z - z.logsumexp(1, keepdim=True))).sum() / len(z)

    return torch.autograd.functional.hessian(loss, flat).numpy(), loss(flat).item(), flat.numpy()


def test_the_edge_of_gradient_descent_is_the_dense_hessians():
    trained = train(TANH, (EDGE,), device="cpu")
    for step in (1, 4, 6):
        hessian, loss, _ = dense_hessian(TANH, trained_to(TANH, step).model)
        top = np.linalg.eigvalsh(hessian)[-1]
        assert seen(trained, "edge_sharpness")[step] == pytest.approx(top, rel=RESIDUAL)
        assert seen(trained, "edge_ratio")[step] == pytest.approx(math.log2(top * 0.3 / 2), abs=2 * RESIDUAL)
        assert seen(trained, "edge_loss")[step] == pytest.approx(loss, rel=1e-12)


def test_hovering_is_the_mean_of_the_last_third_and_the_highest_of_all():
    trained = train(TANH, (EDGE,), device="cpu")
    ratios = list(seen(trained, "edge_ratio").values())
    assert len(ratios) == 6
    assert seen(trained, "edge_hovering")[6] == pytest.approx(np.mean(ratios[4:]), abs=1e-12)
    assert seen(trained, "edge_hovering")[5] == ratios[4]
    assert seen(trained, "edge_highest")[6] == max(ratios)


def test_the_threshold_of_momentum():
    recipe = replace(TANH, optimizer=OptimizerConfig(name="sgd", lr=0.05, momentum=0.8))
    trained = train(recipe, (EDGE,), device="cpu")
    for step, sharpness in seen(trained, "edge_sharpness").items():
        assert seen(trained, "edge_ratio")[step] == pytest.approx(math.log2(sharpness / (3.6 / 0.05)), abs=1e-12)


def test_adams_is_preconditioned_by_its_state():
    recipe = replace(TANH, optimizer=OptimizerConfig(name="adamw", lr=0.01, betas=(0.8, 0.95)))
    trained = train(recipe, (Observer(name="edge", every="doubling"),), device="cpu")
    assert 0 not in seen(trained, "edge_ratio")
    # The moments by hand, from the gradients at the weights before each step.
    second = 0.0
    for step in range(4):
        before = trained_to(recipe, step).model if step else _initial(recipe)
        second = 0.95 * second + 0.05 * _gradient(recipe, before) ** 2
    hessian, _, _ = dense_hessian(recipe, trained_to(recipe, 4).model)
    diagonal = (1 - 0.8**4) * (np.sqrt(second / (1 - 0.95**4)) + 1e-8)
    top = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(diagonal, diagonal)))[-1]
    assert seen(trained, "edge_sharpness")[4] == pytest.approx(top, rel=RESIDUAL)
    assert seen(trained, "edge_ratio")[4] == pytest.approx(math.log2(top * 0.2 * 0.01 / 3.6), abs=2 * RESIDUAL)


def _initial(recipe):
    from mlptheory.training import build_recipe_model, prepare_examples

    return build_recipe_model(recipe, prepare_examples(recipe.data, recipe.seed)).double()


def _gradient(recipe, model):
    from mlptheory.training import prepare_examples

    examples = prepare_examples(recipe.data, recipe.seed)
    images = examples.train.images.double() / 255
    inputs = (images - examples.normalization.mean[0]) / examples.normalization.std[0]
    model = copy.deepcopy(model)
    targets = torch.nn.functional.one_hot(examples.train.labels, 10).double()
    (((model(inputs) - targets) ** 2).sum() / (2 * len(inputs))).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()


def test_members_of_an_ensemble_see_their_own_edge():
    recipes = [replace(TANH, optimizer=replace(GD, lr=lr)) for lr in (0.3, 0.1)]
    for recipe, member in zip(recipes, train_ensemble(recipes, (EDGE,), device="cpu"), strict=True):
        alone = train(recipe, (EDGE,), device="cpu")
        assert seen(member, "edge_ratio") == pytest.approx(seen(alone, "edge_ratio"), abs=1e-6)


def test_members_of_an_ensemble_have_their_own_preconditioner():
    recipes = [replace(TANH, optimizer=OptimizerConfig(name="adamw", lr=lr)) for lr in (0.02, 0.01)]
    for recipe, member in zip(recipes, train_ensemble(recipes, (EDGE,), device="cpu"), strict=True):
        alone = train(recipe, (EDGE,), device="cpu")
        assert seen(member, "edge_ratio") == pytest.approx(seen(alone, "edge_ratio"), abs=1e-6)


def test_looking_changes_nothing():
    watched = train(RELU, (Observer(name="flatness", every="octave", parameters=(("loss", 0.5),)),), device="cpu")
    alone = train(RELU, device="cpu")
    for a, b in zip(watched.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (OptimizerConfig(name="lion"), "lion has no known threshold"),
        (replace(GD, weight_decay=0.1), "optimizer.weight_decay = 0.1"),
        (replace(GD, clip_norm=1.0), "optimizer.clip_norm = 1.0"),
        (replace(GD, head_lr=0.1), "one learning rate for all parameters"),
    ],
    ids=["lion", "decay", "clipping", "head"],
)
def test_optimizers_without_a_threshold_are_refused(optimizer, words):
    with pytest.raises(InputError, match=words):
        train(replace(TANH, optimizer=optimizer), (EDGE,), device="cpu")


def test_sharpening_is_of_the_loss_between_two_looks():
    recipe = replace(TANH, budget=replace(TANH.budget, amount=60))
    observer = Observer(name="sharpening", every="octave", parameters=(("loss", 0.42),))
    trained = train(recipe, (observer,), device="cpu")
    losses = seen(trained, "sharpening_loss")
    steps = sorted(losses)
    after = next(step for step in steps if losses[step] <= 0.42)
    before = steps[steps.index(after) - 1]
    assert steps[-1] == after and losses[before] > 0.42
    tops = [
        np.linalg.eigvalsh(dense_hessian(recipe, trained_to(recipe, step).model if step else _initial(recipe))[0])[-1]
        for step in (0, before, after)
    ]
    share = (losses[before] - 0.42) / (losses[before] - losses[after])
    at = (1 - share) * math.log2(tops[1]) + share * math.log2(tops[2])
    assert seen(trained, "sharpening") == {after: pytest.approx(at - math.log2(tops[0]), abs=4 * RESIDUAL)}


def test_there_is_no_sharpening_where_the_loss_is_not_reached():
    observer = Observer(name="sharpening", every="octave", parameters=(("loss", 1e-6),))
    assert seen(train(TANH, (observer,), device="cpu"), "sharpening") == {}


def flat(**parameters):
    observer = Observer(name="flatness", every="octave", parameters=tuple({"loss": 0.5, **parameters}.items()))
    return train(RELU, (observer,), device="cpu")


def test_flatness_is_the_dense_hessians_and_its_adaptive_form():
    trained = flat(rescalings=2)
    step = max(seen(trained, "sharpness"))
    run = trained_to(RELU, step)
    hessian, loss, parameters = dense_hessian(RELU, run.model)
    assert loss <= 0.5
    assert seen(trained, "sharpness")[step] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=RESIDUAL)
    relative = hessian * np.outer(np.abs(parameters), np.abs(parameters))
    assert seen(trained, "adaptive_sharpness")[step] == pytest.approx(np.linalg.eigvalsh(relative)[-1], rel=RESIDUAL)
    assert seen(trained, "gap")[step] == pytest.approx(run.evaluations["test"].loss - loss, abs=1e-9)
    assert seen(trained, "test_error")[step] == pytest.approx(1 - run.evaluations["test"].top1, abs=1e-12)


def test_rescaling_moves_sharpness_and_neither_function_nor_adaptive_sharpness():
    trained = flat(rescalings=3)
    rows = {name: value for _, _, name, value in trained.history}
    assert rows["function_change"] < -13 and rows["adaptive_change"] < -6
    moved = [rows[f"rescaling_{draw}"] for draw in range(3)]
    assert len(set(moved)) == 3 and max(map(abs, moved)) > 1


def test_an_unknown_change_is_not_taken_for_none(monkeypatch):
    known, calls = registered_edge._adaptive, []

    def unknown_at_last(*arguments):
        calls.append(arguments)
        return replace(known(*arguments), converged=False)

    monkeypatch.setattr(registered_edge, "_adaptive", unknown_at_last)
    rows = {name: value for _, _, name, value in flat(rescalings=1).history}
    assert calls and math.isnan(rows["adaptive_change"]) and rows["function_change"] < -13


def test_rescalings_are_the_recipes_own():
    first = flat(rescalings=1)
    recipe = replace(RELU, budget=replace(RELU.budget, batch_size=12))
    parameters = (("loss", 0.5), ("rescalings", 1))
    other = train(recipe, (Observer(name="flatness", every="octave", parameters=parameters),), device="cpu")
    (one,), (two,) = (seen(each, "rescaling_0").values() for each in (first, other))
    assert abs(one - two) > 0.1
    assert seen(flat(rescalings=1), "rescaling_0") == seen(first, "rescaling_0")


@pytest.mark.parametrize("name", ["MLP-3/Wi-8", "S-2/Wi-8", "MLP-1/Wi-8"])
def test_powers_of_two_leave_every_bit_of_the_logits(name):
    model = build(name, norm="none", image_size=8, channels=1, num_classes=10)
    inputs = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = model(inputs)
    layers = homogeneous_layers(model)
    rescale_layers(model, layers, tuple(2.0 ** (3 * index - 4) for index in range(len(layers) - 1)))
    assert torch.equal(model(inputs), logits)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MLP-2/Wi-8", {}),
        ("MLP-2/Wi-8", {"norm": "none", "activation": "tanh"}),
        ("S-2/Wi-8", {"norm": "none", "skip": True}),
        ("B-1/Wi-8", {"norm": "none"}),
        ("CNN-1/Wi-2", {"norm": "none", "activation": "relu"}),
    ],
)
def test_nets_that_notice_a_rescaling_are_refused(name, options):
    model = build(name, image_size=8, channels=1, num_classes=10, **options)
    with pytest.raises(InputError, match="activation 'relu', norm 'none' and no skips"):
        homogeneous_layers(model)
    with pytest.raises(InputError, match="expected an MLP-"):
        homogeneous_layers(torch.nn.Linear(2, 2))


def test_no_examples_are_refused():
    with pytest.raises(InputError, match="examples = 0"):
        train(TANH, (Observer(name="edge", every=1, parameters=(("examples", 0),)),), device="cpu")


@pytest.mark.parametrize(("observer", "loss"), [("sharpening", 0.0), ("flatness", -1.0)])
def test_a_target_below_zero_is_refused(observer, loss):
    with pytest.raises(InputError, match="loss"):
        train(RELU, (Observer(name=observer, every="octave", parameters=(("loss", loss),)),), device="cpu")
