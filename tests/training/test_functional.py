"""Stacked weights, and the optimizers over them against torch's and lion-pytorch's own, member by member."""

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.training import OptimizerConfig, build_optimizer
from mlptheory.training.functional import StackedOptimizer
from mlptheory.training.optimizers import set_lr
from mlptheory.training.stack import Stack

MULTIPLIERS = {"p0": 1.0, "p1": 0.25, "p2": 1.0, "p3": 8.0, "p4": 1.0}
LRS = (1.0, 0.1, 3.0)
CONFIGS = [
    OptimizerConfig(name="lion", lr=1e-2, weight_decay=0.7),
    OptimizerConfig(name="lion", lr=1e-2, betas=(0.5, 0.25), clip_norm=0.3),
    OptimizerConfig(name="lion", lr=1e-2, betas=(0.3, 0.0)),
    OptimizerConfig(name="adamw", lr=2e-2, weight_decay=0.3, clip_norm=2.0),
    OptimizerConfig(name="adamw", lr=1e-3, betas=(0.0, 0.5), weight_decay=5.0),
    OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.2, clip_norm=1.0),
    OptimizerConfig(name="sgd", lr=0.05, momentum=0.0, clip_norm=1e3),
    OptimizerConfig(name="sgd", lr=0.03, momentum=0.99, weight_decay=1.0),
]


class Ugly(nn.Module):
    """Parameters of odd shapes: a scalar, a row, a column, three axes, and a matrix."""

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        for index, shape in enumerate([(), (1, 7), (5, 1), (3, 2, 5), (4, 6)]):
            value = torch.randn(shape, generator=draw, dtype=torch.float64)
            self.register_parameter(f"p{index}", nn.Parameter(value))


def _gradients(model, step, member):
    draw = np.random.default_rng([step, member])
    return {
        name: torch.from_numpy(
            np.asarray(
                draw.normal(size=tuple(value.shape))
                * 10.0 ** draw.integers(-3, 2)
                * (draw.random(tuple(value.shape)) > 0.2)
            )
        )
        for name, value in model.named_parameters()
    }


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name}-{config.lr}-{config.clip_norm}")
def test_a_stacked_step_is_each_members_own(config, transposed):
    models = [Ugly(seed) for seed in range(3)]
    singles = [
        build_optimizer(model, OptimizerConfig(name=config.name, **_of(config, lr)), MULTIPLIERS)
        for model, lr in zip(models, LRS, strict=True)
    ]
    stack = Stack(models)
    stacked = StackedOptimizer(stack, config, [config.lr * lr for lr in LRS], MULTIPLIERS)
    for step in range(200):
        factor = 0.5 + 0.5 * np.cos(step)
        own = [_gradients(model, step, member) for member, model in enumerate(models)]
        gradients = {name: torch.stack([each[name] for each in own]) for name in own[0]}
        if transposed:  # as the gradients of linear layers come, and as nothing else does
            gradients = {name: each.mT.contiguous().mT if each.dim() > 2 else each for name, each in gradients.items()}
        handed = {name: each.clone() for name, each in gradients.items()}
        stacked.step(gradients, factor)
        assert all(torch.equal(each, handed[name]) for name, each in gradients.items())
        for model, single, lr, gradient in zip(models, singles, LRS, own, strict=True):
            for name, parameter in model.named_parameters():
                parameter.grad = gradient[name]
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            set_lr(single, config.lr * lr * factor)
            single.step()
    assert stacked.steps == 200
    for member, (model, single) in enumerate(zip(models, singles, strict=True)):
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stack.parameters[name][member], parameter, rtol=1e-11, atol=1e-12, msg=name)
        copy = stack.load_into(Ugly(), stack.weights[member])
        other = build_optimizer(copy, OptimizerConfig(name=config.name, **_of(config, LRS[member])), MULTIPLIERS)
        stacked.write_into(other, dict(copy.named_parameters()), member)
        found, expected = other.state_dict()["state"], single.state_dict()["state"]
        assert list(found) == list(expected)
        for index, state in expected.items():
            assert list(found[index]) == list(state)
            for name, value in state.items():
                torch.testing.assert_close(found[index][name], value, rtol=1e-11, atol=1e-12, msg=name)


def _of(config, lr):
    return {
        "lr": config.lr * lr,
        "betas": config.betas,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
    }


@pytest.mark.parametrize("config", CONFIGS[::3], ids=lambda config: config.name)
def test_a_restored_optimizer_goes_on_with_the_same_bits(config):
    def run(stops):
        stack = Stack([Ugly(seed) for seed in range(3)])
        optimizer = StackedOptimizer(stack, config, LRS, MULTIPLIERS)
        for step in range(9):
            if step in stops:
                state = {"weights": stack.weights.clone(), "optimizer": optimizer.state()}
                stack = Stack([Ugly(7)] * 3)
                stack.weights.copy_(state["weights"])
                optimizer = StackedOptimizer(stack, config, LRS, MULTIPLIERS)
                optimizer.restore(state["optimizer"])
            own = [_gradients(Ugly(), step, member) for member in range(3)]
            optimizer.step({name: torch.stack([each[name] for each in own]) for name in own[0]}, 1.0)
        return stack.weights

    assert torch.equal(run(()), run((1, 4, 5)))


def test_a_member_that_is_not_finite_reaches_no_other():
    def run(bad):
        stack = Stack([Ugly(seed) for seed in range(3)])
        optimizer = StackedOptimizer(stack, CONFIGS[3], LRS, MULTIPLIERS)
        for step in range(5):
            own = [_gradients(Ugly(), step, member) for member in range(3)]
            gradients = {name: torch.stack([each[name] for each in own]) for name in own[0]}
            if bad:
                gradients["p4"][1, 2, 3] = torch.nan
            optimizer.step(gradients, 1.0)
        return stack.weights

    clean, mixed = run(False), run(True)
    assert torch.equal(mixed[[0, 2]], clean[[0, 2]])
    assert mixed[1].isnan().all()


def test_a_stack_holds_its_members_bit_for_bit():
    models = [Ugly(seed) for seed in range(4)]
    stack = Stack(models)
    assert stack.weights.shape == (4, 1 + 7 + 5 + 30 + 24)
    for member, model in enumerate(models):
        back = stack.load_into(Ugly(9), stack.weights[member])
        for (name, value), found in zip(model.named_parameters(), back.parameters(), strict=True):
            assert torch.equal(value, found), name
            assert torch.equal(value, stack.parameters[name][member])
            assert stack.parameters[name].shape == (4, *value.shape)
    # The views are the weights, and nothing of the models is.
    with torch.no_grad():
        stack.parameters["p4"].zero_()
    assert (stack.weights == 0).sum() == 4 * 24 and models[0].p4.abs().sum() > 0
