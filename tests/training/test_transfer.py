"""What a child takes over from its parent, and what is refused."""

from dataclasses import replace

import pytest
import torch

from mlptheory.base import InputError
from mlptheory.models import ModelConfig, build
from mlptheory.training import (
    BudgetConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    finetune,
    finetuning_recipe,
    linear_probe,
    probing_recipe,
    train,
)

PARENT = Recipe(
    data=DataConfig(name="tiny"),
    model=ModelConfig(name="B-1/Wi-6"),
    optimizer=OptimizerConfig(name="sgd", lr=0.1),
    budget=BudgetConfig(amount=2, batch_size=8),
    precision="float32",
)
CHILD = DataConfig(name="tiny-3-classes", image_size=4)


@pytest.fixture(scope="module")
def parent():
    recipe = replace(PARENT, data=DataConfig(name="tiny-3-classes", image_size=4), seed=1)
    return train(recipe, device="cpu")


def _moved(parent, child):
    """Names of the parameters that are not the parent's."""
    ours = dict(child.model.named_parameters())
    return {name for name, value in parent.model.named_parameters() if not torch.equal(value, ours[name])}


def _recipe(kind, **others):
    make = {"finetune": finetuning_recipe, "probe": probing_recipe}[kind]
    return make(CHILD, **{"budget": BudgetConfig(amount=2, batch_size=8), "seed": 5, **others})


def test_fine_tuning_moves_all_and_a_probe_the_head(parent):
    before = {name: value.clone() for name, value in parent.model.state_dict().items()}
    everything = {name for name, _ in parent.model.named_parameters()}
    assert _moved(parent, finetune(parent, _recipe("finetune"), device="cpu")) == everything
    assert _moved(parent, linear_probe(parent, _recipe("probe"), device="cpu")) == {"head.weight", "head.bias"}
    assert all(torch.equal(value, before[name]) for name, value in parent.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in parent.model.parameters())


def test_the_body_is_the_parents_and_the_head_is_drawn_from_the_childs_seed(parent):
    barely = replace(_recipe("finetune").optimizer, lr=1e-30, head_lr=1e-30, momentum=0.0)
    child = finetune(parent.model, _recipe("finetune", optimizer=barely, seed=7), device="cpu")
    fresh = build("B-1/Wi-6", image_size=4, channels=1, num_classes=3, seed=7)
    for name, value in child.model.named_parameters():
        source = fresh if name.startswith("head.") else parent.model
        assert torch.equal(value, source.get_parameter(name)), name


def test_another_number_of_classes_needs_a_new_head_only():
    wide = train(replace(PARENT, data=DataConfig(name="tiny-wide", image_size=4)), device="cpu")
    child = linear_probe(wide, probing_recipe(DataConfig(name="tiny"), budget=BudgetConfig(batch_size=9)), device="cpu")
    assert child.model.num_classes == 7 and wide.model.num_classes == 4
    assert torch.equal(child.model.embedding.weight, wide.model.embedding.weight)


def test_other_pixels_are_refused_by_name(parent):
    with pytest.raises(InputError, match=r"embedding.weight has shape \(6, 16\), expected \(6, 9\)"):
        finetune(parent, replace(_recipe("finetune"), data=replace(CHILD, image_size=3)), device="cpu")


def test_weights_that_do_not_belong_are_named(parent):
    weights = parent.model.state_dict()
    weights["extra"] = weights.pop("blocks.0.expand.bias")
    recipe = _recipe("finetune", model=ModelConfig(name="B-1/Wi-6"))
    with pytest.raises(InputError, match=r"missing blocks\.0\.expand\.bias \(24,\); unexpected extra \(24,\)"):
        train(recipe, start_weights=weights, device="cpu")
    with pytest.raises(InputError, match="expected start_weights"):
        train(recipe, device="cpu")
    with pytest.raises(InputError, match="expected start_weights"):
        train(PARENT, start_weights=weights, device="cpu")


def test_a_parent_is_what_was_trained_or_built(parent):
    with pytest.raises(InputError, match="parent = 'Linear'"):
        finetune(torch.nn.Linear(2, 2), _recipe("finetune"))
