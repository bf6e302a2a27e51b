"""A head trained alone, against the same training with the body in every step."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.base import InputError
from mlptheory.data import Augmentation, Loader
from mlptheory.models import ModelConfig, build, model_from_config
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, prepare_examples, train
from mlptheory.training.head import Head

RECIPE = Recipe(
    data=DataConfig(name="tiny"),
    model=ModelConfig(name="B-1/Wi-6", dropout=0.5, output_scale=3.0),
    optimizer=OptimizerConfig(name="lion", lr=1e-2, weight_decay=0.1),
    budget=BudgetConfig(amount=3, batch_size=9, drop_last=True),
    label_smoothing=0.2,
    precision="float64",
    trained="head",
    seed=3,
)


def _in_every_step(recipe, numpy_optimizer):
    """Train the head with the whole network run on every batch, in evaluation mode; return all weights."""
    examples = prepare_examples(recipe.data, recipe.seed)
    model = model_from_config(recipe.model, image_size=4, channels=2, num_classes=7, seed=recipe.seed).double().eval()
    loader = Loader(
        examples.train,
        batch_size=recipe.budget.batch_size,
        seed=recipe.seed,
        normalization=examples.normalization,
        drop_last=recipe.budget.drop_last,
        dtype=torch.float64,
    )
    head = {f"head.{name}": value for name, value in model.head.named_parameters()}
    optimizer = numpy_optimizer(recipe.optimizer, {name: value.detach().numpy() for name, value in head.items()})
    for epoch in range(recipe.budget.amount):
        for batch in loader.batches(epoch):
            loss = F.cross_entropy(model(batch.inputs), batch.targets, label_smoothing=recipe.label_smoothing)
            gradients = dict(zip(head, torch.autograd.grad(loss, list(head.values())), strict=True))
            optimizer.step({name: value.numpy() for name, value in gradients.items()})
            for name, value in head.items():
                value.data.copy_(torch.from_numpy(optimizer.weights[name]))
    return dict(model.named_parameters())


def test_it_is_training_with_the_body_held_fixed(numpy_optimizer):
    trained, expected = train(RECIPE, device="cpu"), _in_every_step(RECIPE, numpy_optimizer)
    start = model_from_config(RECIPE.model, image_size=4, channels=2, num_classes=7, seed=RECIPE.seed).double()
    for name, value in trained.model.named_parameters():
        np.testing.assert_allclose(value.detach(), expected[name].detach(), rtol=0, atol=1e-12, err_msg=name)
        assert torch.equal(value, start.get_parameter(name)) != name.startswith("head.")
    assert trained.history[-1][:2] == (12, 3)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    whole = train(RECIPE, device="cpu")

    class StopError(Exception):
        pass

    def stop(step, steps):
        if step == 7:
            raise StopError

    with pytest.raises(StopError):
        train(RECIPE, device="cpu", checkpoint=tmp_path / "c", checkpoint_every_s=0, on_step=stop)
    again = train(RECIPE, device="cpu", checkpoint=tmp_path / "c")
    assert torch.equal(whole.model.head.weight, again.model.head.weight)
    assert whole.history == again.history


class _MoreThanItsHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x) + 1


def test_a_model_that_is_not_its_heads_output_is_refused():
    with pytest.raises(InputError, match="has none of that name"):
        Head(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(InputError, match="outputs are those of its head"):
        Head(_MoreThanItsHead()).features(torch.ones(3, 4))


def test_features_are_what_the_head_is_given():
    model = build("S-2/Wi-5", image_size=3, channels=1, num_classes=4).double()
    images = torch.rand(6, 1, 3, 3, dtype=torch.float64)
    features = Head(model).features(images)
    assert torch.equal(features, model.intermediates(images)["block1"])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": Augmentation(flip=True)}, "augmentation = .*expected none where only the head is trained"),
        ({"budget": BudgetConfig(unit="compute")}, "budget.unit = 'compute'"),
        ({"trained": "body"}, "trained = 'body'"),
    ],
)
def test_what_fixed_features_cannot_have_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **changes)
