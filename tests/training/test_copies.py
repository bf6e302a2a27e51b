import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from lion_pytorch import Lion
from torch import nn
from torch.nn import functional as F

from mlptheory.models import ModelConfig, bfloat16, build, lr_multipliers
from mlptheory.training import (
    BudgetConfig,
    Observer,
    OptimizerConfig,
    Recipe,
    build_optimizer,
    observers,
    prepare_examples,
)
from mlptheory.training.copies import WeightCopies
from mlptheory.training.loop import Run
from mlptheory.training.losses import example_losses

OPTIMIZERS = {
    "lion": OptimizerConfig(name="lion", lr=1e-3, weight_decay=0.1),
    "lion, clipped": OptimizerConfig(name="lion", lr=1e-3, clip_norm=0.5),
    "adamw": OptimizerConfig(name="adamw", lr=1e-3),
    "sgd": OptimizerConfig(name="sgd", lr=0.05),
}


def _recipe(optimizer, microbatch=None, **model):
    return Recipe(
        model=ModelConfig(**{"name": "B-2/Wi-48", **model}),
        optimizer=optimizer,
        budget=BudgetConfig(amount=1, batch_size=200, microbatch=microbatch),
        precision="bfloat16",
        seed=3,
    )


def _autocast_twin(recipe, batches):
    """Train by torch's autocast on float32 weights and the field's own optimizers."""
    run = Run(recipe, prepare_examples(recipe.data, recipe.seed), "cpu", "bfloat16")
    model, config = run.model, recipe.optimizer
    optimizer = build_optimizer(model, config, lr_multipliers(model, config.name))
    if config.name == "lion":
        groups = [{**group, "lr": group["lr"]} for group in optimizer.param_groups]
        optimizer = Lion(groups, lr=config.lr, betas=(0.9, 0.99))
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        size = len(batch.targets)
        part = recipe.budget.microbatch or size
        for first in range(0, size, part):
            rows = slice(first, min(first + part, size))
            with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
                logits = model(batch.inputs[rows])
            (example_losses(logits.float(), batch, recipe, rows).sum() / size).backward()
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("microbatch", [None, 64])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", [{}, {"name": "S-2/Wi-48"}, {"parametrization": "mup", "base_width": 16}])
def test_a_run_has_the_bits_of_autocast_but_for_the_order_of_sums(name, model, microbatch, monkeypatch):
    monkeypatch.setattr(bfloat16, "linear", F.linear)
    recipe = _recipe(OPTIMIZERS[name], microbatch, **model)
    run = Run(recipe, prepare_examples(recipe.data, recipe.seed), "cpu", "bfloat16")
    batches = [batch for _, batch in zip(range(5), run.loader.batches(0), strict=False)]
    for batch in batches:
        run.take_step(batch)
    expected = _autocast_twin(recipe, batches)
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_copies_are_of_the_dense_layers_that_share_nothing():
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0)
    names = {name for name, _ in model.named_parameters() if "norm" not in name}
    assert set(WeightCopies(model).current()) == names
    model.head.weight = nn.Parameter(model.head.weight.detach().clone(), requires_grad=False)
    model.blocks[0].contract.weight = model.blocks[0].expand.weight
    left = {"head.weight", "blocks.0.contract.weight", "blocks.0.expand.weight"}
    assert set(WeightCopies(model).current()) == names - left


def test_layers_that_scale_are_left_to_autocast():
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0, parametrization="ntk")
    assert WeightCopies(model).current() == {}


def test_a_weight_that_was_changed_is_copied_again():
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0)
    copies = WeightCopies(model)
    other = build("B-1/Wi-32", image_size=4, num_classes=5, seed=1).state_dict()
    model.load_state_dict(other)
    for name, value in copies.current().items():
        assert torch.equal(value, other[name].bfloat16()), name


def test_gradients_are_handed_over_in_float32_and_added():
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0)
    copies, head = WeightCopies(model), model.head.weight
    for value in (1.0, 2.0**-9):
        copies.of(head).grad = torch.full(head.shape, value, dtype=torch.bfloat16)
        copies.hand_over()
    assert copies.of(head).grad is None and torch.equal(head.grad, torch.full(head.shape, 1 + 2.0**-9))
    assert model.embedding.weight.grad is None


def test_restoring_a_state_restores_the_copies():
    recipe = _recipe(OPTIMIZERS["lion"])
    examples = prepare_examples(recipe.data, recipe.seed)
    run, resumed = (Run(recipe, examples, "cpu", "bfloat16") for _ in range(2))
    batches = [batch for _, batch in zip(range(4), run.loader.batches(0), strict=False)]
    for batch in batches[:2]:
        run.take_step(batch)
    resumed.restore(copy.deepcopy(run.state()))
    for batch in batches[2:]:
        run.take_step(batch)
        resumed.take_step(batch)
    for one, other in zip(run.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_head_alone_and_other_precisions_have_no_copies():
    recipe = _recipe(OPTIMIZERS["lion"])
    examples = prepare_examples(recipe.data, recipe.seed)
    assert Run(recipe, examples, "cpu", "bfloat16").copies is not None
    assert Run(replace(recipe, precision="float32"), examples, "cpu", "float32").copies is None
    assert Run(replace(recipe, trained="head"), examples, "cpu", "bfloat16").copies is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_is_over_is_freed_at_once(precision):
    recipe = replace(_recipe(OPTIMIZERS["lion"]), precision=precision)
    run = Run(recipe, prepare_examples(recipe.data, recipe.seed), "cpu", precision)
    run.take_step(next(iter(run.loader.batches(0))))
    held = [weakref.ref(run), weakref.ref(run.loader), weakref.ref(run.model)]
    gc.disable()
    try:
        del run
        assert [each() for each in held] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_observer_finds_the_gradients_of_the_last_step(name, monkeypatch):
    seen = []
    monkeypatch.setattr(observers, "_entries", dict(observers._entries))
    observers.register("gradients")(
        lambda state: seen.append([value.grad.clone() for value in state.model.parameters()]) or {}
    )
    recipe = _recipe(OPTIMIZERS[name])
    runs = [Run(recipe, prepare_examples(recipe.data, recipe.seed), "cpu", "bfloat16") for _ in range(2)]
    for _, batch in zip(range(3), runs[0].loader.batches(0), strict=False):
        for run in runs:
            run.take_step(batch)
        runs[0].observe([Observer(name="gradients")], is_last=True)
        for found, one, other in zip(seen[-1], *(run.model.parameters() for run in runs), strict=True):
            copy_of_other = runs[1].copies.of(other)
            expected = other.grad if other.grad is not None else copy_of_other.grad.float()
            assert torch.equal(found, expected) and found.dtype == torch.float32
            assert torch.equal(one, other)
