"""The loop against a plain one written from the formulas, in float64, and its promises at the edges."""

import random

import numpy as np
import pytest
import torch
from torch.func import functional_call

from mlptheory.base import InputError
from mlptheory.data import Augmentation, Loader
from mlptheory.models import ModelConfig, lr_multipliers, model_from_config, set_dropout_key
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    lr_factor,
    prepare_examples,
    train,
)

EXACT = {"rtol": 0, "atol": 1e-12}
EVERYTHING = Recipe(
    data=DataConfig(name="tiny"),
    model=ModelConfig(name="B-1/Wi-6", dropout=0.3),
    augmentation=Augmentation(crop_scale=(0.4, 1.0), flip=True, shift=1, mixup=0.8),
    optimizer=OptimizerConfig(name="lion", lr=3e-3, weight_decay=0.5, clip_norm=0.5),
    budget=BudgetConfig(amount=2, batch_size=16),
    schedule=ScheduleConfig(name="cosine", warmup=2),
    label_smoothing=0.3,
    precision="float64",
    seed=4,
)
RECIPES = {
    "lion, everything on": EVERYTHING,
    "adamw, a part of an epoch, MixUp per example": Recipe(
        data=DataConfig(name="tiny", image_size=5, pixel_permutation=3),
        model=ModelConfig(name="S-2/Wi-7", norm="none"),
        augmentation=Augmentation(mixup=0.4, mixup_per="example"),
        optimizer=OptimizerConfig(name="adamw", lr=1e-2, weight_decay=0.1, clip_norm=1e-3),
        budget=BudgetConfig(amount=5, unit="steps", batch_size=12, drop_last=True),
        label_smoothing=0.1,
        precision="float64",
    ),
    "sgd, whole batch, muP": Recipe(
        data=DataConfig(name="tiny", n=33, validation=5, label_noise=0.5),
        model=ModelConfig(name="B-1/Wi-6", parametrization="mup", base_width=2),
        optimizer=OptimizerConfig(name="sgd", lr=0.05, weight_decay=0.2),
        budget=BudgetConfig(amount=4, batch_size=33),
        schedule=ScheduleConfig(warmup=4),
        label_smoothing=0.0,
        precision="float64",
    ),
    "sgd, squared error, smoothed": Recipe(
        data=DataConfig(name="tiny"),
        model=ModelConfig(name="B-1/Wi-6"),
        optimizer=OptimizerConfig(name="sgd", lr=0.05),
        budget=BudgetConfig(amount=2, batch_size=16),
        loss="squared_error",
        label_smoothing=0.2,
        precision="float64",
    ),
    "adamw, squared error, MixUp per example": Recipe(
        data=DataConfig(name="tiny"),
        model=ModelConfig(name="S-2/Wi-7"),
        augmentation=Augmentation(mixup=0.4, mixup_per="example"),
        optimizer=OptimizerConfig(name="adamw", lr=1e-2),
        budget=BudgetConfig(amount=2, batch_size=12),
        loss="squared_error",
        precision="float64",
    ),
    "sgd, a faster head": Recipe(
        data=DataConfig(name="tiny"),
        model=ModelConfig(name="B-1/Wi-6", parametrization="mup", base_width=2),
        optimizer=OptimizerConfig(name="sgd", lr=0.01, head_lr=0.2, weight_decay=0.3),
        budget=BudgetConfig(amount=2, batch_size=16),
        schedule=ScheduleConfig(name="cosine"),
        precision="float64",
    ),
    "sgd, batch normalization": Recipe(
        data=DataConfig(name="tiny-3-classes"),
        model=ModelConfig(name="CNN-2/Wi-3", norm="batch"),
        optimizer=OptimizerConfig(name="sgd", lr=0.1),
        budget=BudgetConfig(amount=2, batch_size=11),
        precision="float64",
    ),
}


def plain_training(recipe, numpy_optimizer):
    """Train by explicit formulas over the same batches; return weights and (loss, accuracy) of each epoch."""
    examples = prepare_examples(recipe.data, recipe.seed)
    classes = examples.train.num_classes
    model = model_from_config(
        recipe.model,
        image_size=recipe.data.image_size or examples.train.images.shape[-1],
        channels=examples.train.images.shape[1],
        num_classes=classes,
        seed=recipe.seed,
    ).double()
    loader = Loader(
        examples.train,
        batch_size=recipe.budget.batch_size,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        normalization=examples.normalization,
        image_size=recipe.data.image_size,
        pixel_permutation=recipe.data.pixel_permutation,
        drop_last=recipe.budget.drop_last,
        dtype=torch.float64,
    )
    optimizer = numpy_optimizer(
        recipe.optimizer,
        {name: value.detach().numpy() for name, value in model.named_parameters()},
        lr_multipliers(model, recipe.optimizer.name),
    )
    by_epoch = recipe.budget.unit == "epochs"
    total = recipe.budget.amount * len(loader) if by_epoch else recipe.budget.amount
    epochs, step = [], 0
    while step < total:
        losses, hits = [], []
        for batch in loader.batches(len(epochs)):
            if step == total:
                break
            set_dropout_key(model, recipe.seed, step, slice(0, len(batch.targets)), len(batch.targets))
            weights = {name: torch.from_numpy(value).requires_grad_() for name, value in optimizer.weights.items()}
            logits = functional_call(model, weights, batch.inputs)
            labels = torch.zeros(len(batch.targets), classes, dtype=torch.float64)
            labels[torch.arange(len(labels)), batch.targets] = 1
            if batch.mix is not None:
                other = torch.zeros_like(labels)
                other[torch.arange(len(labels)), batch.partners] = 1
                labels = batch.mix[:, None] * labels + (1 - batch.mix[:, None]) * other
            smooth = (1 - recipe.label_smoothing) * labels + recipe.label_smoothing / classes
            if recipe.loss == "squared_error":
                # Against the mixed label, on whose variance over the two labels the gradient does not depend.
                variance = (1 - recipe.label_smoothing) ** 2 * (labels.sum(1) - (labels**2).sum(1))
                loss = ((logits - smooth) ** 2).sum(1) / 2 + variance / 2
            else:
                log_p = logits - logits.exp().sum(1, keepdim=True).log()
                loss = -(smooth * log_p).sum(1)
            losses += loss.tolist()
            hits += labels[torch.arange(len(labels)), logits.argmax(1)].tolist()
            found = torch.autograd.grad(loss.mean(), list(weights.values()))
            gradients = {name: value.numpy() for name, value in zip(weights, found, strict=True)}
            norm = np.sqrt(sum((value**2).sum() for value in gradients.values()))
            if recipe.optimizer.clip_norm is not None and norm > recipe.optimizer.clip_norm:
                # torch adds 1e-6 to the norm before it divides.
                scale = recipe.optimizer.clip_norm / (norm + 1e-6)
                gradients = {name: value * scale for name, value in gradients.items()}
            optimizer.step(gradients, lr_factor(recipe.schedule, step, total))
            step += 1
        epochs.append((step, np.mean(losses), np.mean(hits)))
    return optimizer.weights, epochs


def same_bits(a, b):
    left, right = a.model.state_dict(), b.model.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def change(recipe, **changes):
    """Return a recipe with some of its fields changed, as in change(recipe, budget={"microbatch": 3})."""
    plain = recipe.to_plain()
    for name, value in changes.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    return Recipe.from_plain(plain)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train_equals_a_plain_loop(recipe, numpy_optimizer):
    weights, epochs = plain_training(recipe, numpy_optimizer)
    trained = train(recipe, device="cpu")
    start = train(change(recipe, budget={"amount": 1, "unit": "steps"}), device="cpu")
    assert not same_bits(start, trained)
    for name, value in trained.model.named_parameters():
        np.testing.assert_allclose(value.detach().numpy(), weights[name], **EXACT, err_msg=name)
    expected = []
    for epoch, (step, loss, accuracy) in enumerate(epochs, start=1):
        expected += [(step, epoch, "train_loss", loss), (step, epoch, "train_accuracy", accuracy)]
    assert [row[:3] for row in trained.history] == [row[:3] for row in expected]
    np.testing.assert_allclose([row[3] for row in trained.history], [row[3] for row in expected], rtol=1e-12)
    assert trained.precision == "float64" and trained.diverged is None and not trained.model.training


@pytest.mark.parametrize("microbatch", [1, 5, 16])
@pytest.mark.parametrize("name", ["lion", "adamw", "sgd"])
def test_microbatches_equal_the_whole_batch(name, microbatch):
    recipe = change(EVERYTHING, optimizer={"name": name})
    whole = train(recipe, device="cpu")
    parts = train(change(recipe, budget={"microbatch": microbatch}), device="cpu")
    for (key, a), b in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(b, a, **EXACT, msg=key)
    np.testing.assert_allclose([row[3] for row in parts.history], [row[3] for row in whole.history], rtol=1e-11)


def test_a_budget_counts_epochs_or_steps():
    def steps(**budget):
        counted = []
        recipe = change(EVERYTHING, budget={"batch_size": 16, **budget})
        train(recipe, device="cpu", on_step=lambda step, total: counted.append((step, total)))
        assert [step for step, _ in counted] == list(range(1, counted[-1][1] + 1))
        return len(counted)

    assert steps(amount=2) == 6
    assert steps(amount=2, drop_last=True) == 4
    assert steps(amount=4, unit="steps") == 4
    assert steps(amount=1, unit="steps") == 1
    assert steps(amount=1, batch_size=41) == 1


def test_equal_recipes_end_with_equal_bits_and_other_seeds_do_not():
    assert same_bits(train(EVERYTHING, device="cpu"), train(EVERYTHING, device="cpu"))
    assert not same_bits(train(EVERYTHING, device="cpu"), train(change(EVERYTHING, seed=5), device="cpu"))


def test_the_step_of_divergence_is_the_first_loss_that_is_not_finite():
    recipe = Recipe(
        data=DataConfig(name="tiny"),
        model=ModelConfig(name="S-1/Wi-5", norm="none"),
        optimizer=OptimizerConfig(name="sgd", lr=1e60),
        budget=BudgetConfig(amount=3, batch_size=8),
        precision="float64",
    )
    trained = train(recipe, device="cpu")
    first = trained.diverged["step"]
    assert 1 < first < 6
    assert trained.diverged == {"step": first, "epoch": 0} and trained.evaluations == {}
    # Training stops after that epoch, of 6 batches.
    assert [row[:3] for row in trained.history] == [(6, 1, "train_loss"), (6, 1, "train_accuracy")]
    before = train(change(recipe, budget={"amount": first - 1, "unit": "steps"}), device="cpu")
    assert before.diverged is None
    assert np.isfinite([row[3] for row in before.history]).all()


def test_weights_that_overflow_in_the_last_step_count_as_divergence():
    recipe = Recipe(
        data=DataConfig(name="tiny"),
        optimizer=OptimizerConfig(name="sgd", lr=1e38),
        budget=BudgetConfig(amount=1, unit="steps", batch_size=41),
        model=ModelConfig(name="B-1/Wi-6", output_scale=1e4),
        precision="float32",
    )
    trained = train(recipe, [Observer(name="evaluation", every="end")], device="cpu")
    assert not all(torch.isfinite(value).all() for value in trained.model.parameters())
    assert trained.diverged == {"step": 1, "epoch": 1}
    assert trained.evaluations == {}
    assert [row[2] for row in trained.history] == ["train_loss", "train_accuracy"]


def test_global_random_states_are_left_alone():
    def states():
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), (name, keys.tolist(), *rest), random.getstate()

    before = states()
    train(change(EVERYTHING, data={"validation": 5, "label_noise": 0.2}), device="cpu")
    assert states() == before
    torch.manual_seed(99)
    a = train(EVERYTHING, device="cpu")
    torch.manual_seed(100)
    assert same_bits(a, train(EVERYTHING, device="cpu"))


def test_validation_is_evaluated_beside_the_test_set_and_never_trained_on():
    recipe = change(EVERYTHING, data={"validation": 6}, budget={"batch_size": 7})
    trained = train(recipe, device="cpu")
    examples = prepare_examples(recipe.data, recipe.seed)
    assert set(trained.evaluations) == {"test", "validation"}
    assert (trained.evaluations["validation"].n, trained.evaluations["test"].n) == (6, 23)
    assert (len(examples.train), len(examples.validation)) == (35, 6)
    assert set(train(EVERYTHING, device="cpu").evaluations) == {"test"}


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(InputError, match="batch_size = 42: larger than the training set of 41 examples"):
        train(change(EVERYTHING, budget={"batch_size": 42}), device="cpu")
    with pytest.raises(InputError, match="batch_size = 16: larger than the training set of 15 examples"):
        train(change(EVERYTHING, data={"n": 15}), device="cpu")


def test_batch_normalization_of_a_single_example_is_refused():
    recipe = RECIPES["sgd, batch normalization"]
    for batch_size in (8, 10, 1):
        with pytest.raises(InputError, match=rf"budget\.batch_size = {batch_size}: expected batches of at least 2"):
            train(change(recipe, budget={"batch_size": batch_size}), device="cpu")
    train(change(recipe, budget={"batch_size": 8, "drop_last": True, "amount": 1}), device="cpu")


def test_a_child_starts_from_its_parents_weights():
    parent = train(EVERYTHING, device="cpu")
    weights = {name: value.clone() for name, value in parent.model.state_dict().items()}
    tiny_step = change(
        EVERYTHING,
        start="parent",
        optimizer={"name": "sgd", "lr": 1e-30, "weight_decay": 0.0},
        budget={"amount": 1, "unit": "steps"},
    )
    child = train(tiny_step, device="cpu", start_weights=weights)
    for (name, value), start in zip(child.model.named_parameters(), parent.model.parameters(), strict=True):
        torch.testing.assert_close(value, start, rtol=0, atol=1e-25, msg=name)
    moved = train(change(tiny_step, optimizer={"lr": 0.1}), device="cpu", start_weights=weights)
    assert not same_bits(parent, moved)
    assert all(torch.equal(value, parent.model.state_dict()[name]) for name, value in weights.items())


def test_start_and_start_weights_go_together():
    weights = train(EVERYTHING, device="cpu").model.state_dict()
    with pytest.raises(InputError, match="start = 'parent': expected start_weights"):
        train(change(EVERYTHING, start="parent"), device="cpu")
    with pytest.raises(InputError, match="start = 'initialization': expected start_weights"):
        train(EVERYTHING, device="cpu", start_weights=weights)
    with pytest.raises(InputError, match=r"start_weights: not those of 'B-1/Wi-8'") as caught:
        train(change(EVERYTHING, start="parent", model={"name": "B-1/Wi-8"}), device="cpu", start_weights=weights)
    assert "\n" not in str(caught.value)


def test_bfloat16_trains_float32_weights():
    recipe = change(EVERYTHING, precision="bfloat16")
    trained = train(recipe, device="cpu")
    assert trained.precision == "bfloat16"
    assert {value.dtype for value in trained.model.parameters()} == {torch.float32}
    assert trained.evaluations["test"].n == 23 and trained.diverged is None
    exact = train(change(recipe, precision="float32"), device="cpu")
    assert not same_bits(trained, exact)
    assert trained.history[0][3] == pytest.approx(exact.history[0][3], rel=0.02)
    assert trained.history[0][3] != exact.history[0][3]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_a_callers_autocast_changes_nothing(precision):
    recipe = change(EVERYTHING, precision=precision)
    observers = [Observer(name="evaluation")]
    alone = train(recipe, observers, device="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = train(recipe, observers, device="cpu")
        assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled()
    assert same_bits(alone, inside)
    assert alone.history == inside.history
    assert alone.evaluations["test"].loss == inside.evaluations["test"].loss
