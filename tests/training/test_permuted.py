import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.data import Augmentation, Loader
from mlptheory.data.permutation import pixel_permutation
from mlptheory.models import ModelConfig
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    build_recipe_model,
    prepare_examples,
    train,
    train_permuted,
)
from mlptheory.training.loop import Run
from mlptheory.training.permuted import _Lane

OPTIMIZERS = {
    "sgd": OptimizerConfig(name="sgd", lr=0.05, momentum=0.9, weight_decay=0.1),
    "adamw": OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.1),
    "lion": OptimizerConfig(name="lion", lr=1e-3, weight_decay=0.1),
}
MOVING = Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(1.0, 1.0), flip=True, shift=1, mixup=0.4)


def _recipe(optimizer="lion", model="S-2/Wi-12", *, steps=12, precision="float64", augmentation=MOVING, **parts):
    return Recipe(
        data=DataConfig(name="digits", n=40),
        model=ModelConfig(name=model),
        augmentation=augmentation,
        optimizer=OPTIMIZERS[optimizer],
        budget=BudgetConfig(amount=steps, unit="steps", batch_size=16),
        precision=precision,
        seed=3,
        **parts,
    )


def _trained_apart(recipe, permutation, by):
    """Return the weights after training on permuted images from columns moved by another loop, and moved back."""
    examples = prepare_examples(recipe.data, recipe.seed)
    moved = pixel_permutation(by, (1, 8, 8)).tolist()
    weights = build_recipe_model(recipe, examples).double().state_dict()
    start = weights["embedding.weight"].clone()
    for column, source in enumerate(moved):
        weights["embedding.weight"][:, column] = start[:, source]
    plain = recipe.to_plain()
    plain["data"]["pixel_permutation"], plain["start"] = permutation, "parent"
    trained = train(Recipe.from_plain(plain), start_weights=weights, device="cpu").model.state_dict()
    ended = trained["embedding.weight"].clone()
    for column, source in enumerate(moved):
        trained["embedding.weight"][:, source] = ended[:, column]
    return trained


def _largest(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_both_runs_are_the_training_loops_own(optimizer):
    recipe = _recipe(optimizer)
    found = train_permuted(recipe, permutation=5, wrong=6, device="cpu")
    plain = train(recipe, device="cpu").model.state_dict()
    assert found.transported.weights[-1] == _largest(plain, _trained_apart(recipe, 5, 5))
    assert found.wrong.weights[-1] == _largest(plain, _trained_apart(recipe, 5, 6))


@pytest.mark.parametrize("model", ["S-2/Wi-32", "B-2/Wi-32", "MLP-2/Wi-32", "Linear"])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_one_trajectory_for_two_hundred_steps(optimizer, model):
    found = train_permuted(_recipe(optimizer, model, steps=200), permutation=5, wrong=6, device="cpu")
    assert found.transported.weights.shape == found.transported.logits.shape == (200,)
    assert found.transported.weights.max() <= 1e-9
    assert found.transported.logits.max() <= 1e-9
    assert found.wrong.weights.max() >= 1e-3
    assert found.wrong.logits.max() >= 1e-3
    if optimizer == "lion":
        assert found.transported.flips.sum() == 0
        assert found.wrong.flips.sum() > 0.1 * 200 * found.wrong.coordinates
    else:
        assert found.transported.flips is None


def test_flips_of_a_first_step_are_those_of_the_gradients():
    recipe = _recipe(steps=1)
    examples = prepare_examples(recipe.data, recipe.seed)
    model = build_recipe_model(recipe, examples).double()
    options = {
        "batch_size": 16,
        "seed": 3,
        "augmentation": MOVING,
        "normalization": examples.normalization,
        "dtype": torch.float64,
    }
    right, wrong = (pixel_permutation(seed, (1, 8, 8)).numpy() for seed in (5, 6))
    batch = next(Loader(examples.train, **options).batches(0))
    # Columns moved by the wrong permutation see what the model itself sees of images moved by its inverse after all.
    seen_wrongly = batch.inputs.flatten(1)[:, right][:, np.argsort(wrong)].view_as(batch.inputs)
    signs = []
    for inputs in (batch.inputs, seen_wrongly):
        model.zero_grad()
        smoothing = {"label_smoothing": 0.3, "reduction": "none"}
        losses = [nn.functional.cross_entropy(model(inputs), each, **smoothing) for each in _classes(batch)]
        (batch.mix * losses[0] + (1 - batch.mix) * losses[1]).mean().backward()
        signs.append(torch.cat([each.grad.flatten().sign() for each in model.parameters()]))
    found = train_permuted(recipe, permutation=5, wrong=6, device="cpu")
    assert found.wrong.flips.tolist() == [(signs[0] != signs[1]).sum().item()]
    assert found.wrong.coordinates == len(signs[0])


def _classes(batch):
    return batch.targets, batch.partners


def test_made_equal_again_no_step_inherits_a_deviation():
    recipe = _recipe(steps=20)
    free = train_permuted(recipe, permutation=5, wrong=6, device="cpu").wrong
    equalized = train_permuted(recipe, permutation=5, wrong=6, equalized=True, device="cpu").wrong
    assert free.weights[0] == equalized.weights[0]
    assert free.flips[0] == equalized.flips[0]
    # Lion moves a weight by its learning rate, so that one step's two signs are at most twice that apart.
    assert free.weights.max() > 2.5e-3
    assert equalized.weights.max() <= 2e-3 * (1 + 1e-12)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_weights_and_optimizer_state_are_made_the_references_with_columns_moved(optimizer):
    recipe, moved = _recipe(optimizer), pixel_permutation(6, (1, 8, 8)).tolist()
    reference = _Lane(Run(recipe, prepare_examples(recipe.data, recipe.seed), "cpu", "float64"))
    lane = reference.moved(5, 6)
    for each in (reference, lane):
        for batch in each.run.loader.batches(0):
            each.run.take_step(batch)
    assert not any(torch.equal(own, other) for own, other in _pairs(lane, reference, moved, whole=False))
    lane.equalize(reference)
    pairs = list(_pairs(lane, reference, moved))
    assert all(torch.equal(own, other) for own, other in pairs)
    # Weights, and of each its momentum; AdamW has a second moment and a count of steps beside it.
    assert len(pairs) == {"sgd": 2, "adamw": 4, "lion": 2}[optimizer] * len(list(lane.run.model.parameters()))


def _pairs(lane, reference, moved, whole=True):
    """Yield every weight and state of a lane, and what it should be of the reference's; single numbers if whole."""
    for own, other in zip(lane.run.model.parameters(), reference.run.model.parameters(), strict=True):
        states = [lane.run.optimizer.state[own], reference.run.optimizer.state[other]]
        assert states[0].keys() == states[1].keys()
        pairs = [(own.detach(), other.detach()), *((states[0][name], states[1][name]) for name in states[0])]
        for mine, theirs in pairs:
            if own is lane.first and mine.dim() == 2:
                theirs = torch.stack([theirs[:, source] for source in moved], dim=1)
            if whole or mine.dim():
                yield mine, theirs


def test_logits_are_those_of_the_first_batch_in_evaluation_mode():
    recipe = _recipe("adamw", steps=3, augmentation=Augmentation())
    dropping = Recipe.from_plain({**recipe.to_plain(), "model": {"name": "S-2/Wi-12", "dropout": 0.5}})
    found = train_permuted(dropping, permutation=5, wrong=6, device="cpu")
    examples = prepare_examples(dropping.data, dropping.seed)
    model = train(dropping, device="cpu").model.eval()
    loader = Loader(examples.train, batch_size=16, seed=3, normalization=examples.normalization, dtype=torch.float64)
    inputs = next(loader.batches(0)).inputs
    other = build_recipe_model(dropping, examples).double().eval()
    other.load_state_dict(_trained_apart(dropping, 5, 6))
    right, wrong = (pixel_permutation(seed, (1, 8, 8)) for seed in (5, 6))
    seen_wrongly = inputs.flatten(1)[:, right][:, wrong.argsort()].view_as(inputs)
    with torch.no_grad():
        expected = (other(seen_wrongly) - model(inputs)).abs().max().item()
    assert found.wrong.logits[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ({"data": DataConfig(pixel_permutation=1)}, {}, "data.pixel_permutation = 1: expected None"),
        ({"start": "parent"}, {}, "start = 'parent': expected 'initialization'"),
        ({"trained": "head"}, {}, "trained = 'head': expected 'all'"),
        ({"model": ModelConfig(name="CNN-1/Wi-4")}, {}, "model = 'CNN-1/Wi-4': expected an MLP"),
        ({}, {"wrong": 0}, "wrong = 0: expected the seed of another permutation"),
        ({}, {"permutation": -1}, "permutation = -1: expected an integer of at least 0"),
        ({}, {"wrong": "other"}, "wrong = 'other': expected an integer of at least 0"),
    ],
)
def test_refusals(parts, options, message):
    recipe = Recipe(budget=BudgetConfig(amount=1, unit="steps"), **parts)
    with pytest.raises(InputError, match=f"^{message}"):
        train_permuted(recipe, device="cpu", **options)


@pytest.mark.cuda
def test_on_a_gpu():
    found = train_permuted(_recipe(steps=50), permutation=5, wrong=6, device="cuda")
    assert found.transported.weights.max() <= 1e-9
    assert found.transported.flips.sum() == 0
    assert found.wrong.weights.max() >= 1e-3
