import math

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.models import build, lr_multipliers
from mlptheory.training import OptimizerConfig, ScheduleConfig, build_optimizer, lr_factor
from mlptheory.training.optimizers import set_lr

CONFIGS = [
    OptimizerConfig(name="lion", lr=3e-3, weight_decay=0.7),
    OptimizerConfig(name="lion", lr=1e-2, betas=(0.5, 0.25)),
    OptimizerConfig(name="adamw", lr=2e-2, weight_decay=0.3),
    OptimizerConfig(name="adamw", lr=1e-3, betas=(0.0, 0.5), weight_decay=5.0),
    OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.2),
    OptimizerConfig(name="sgd", lr=0.05, momentum=0.0),
    OptimizerConfig(name="sgd", lr=0.3, momentum=0.99, weight_decay=1.0),
]


class Ugly(nn.Module):
    """Parameters of odd shapes: a scalar, a row, a column, an empty one, and one that never gets a gradient."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        for index, shape in enumerate([(), (1, 7), (5, 1), (3, 2, 5), (0, 4)]):
            value = torch.randn(shape, generator=draw, dtype=torch.float64)
            self.register_parameter(f"p{index}", nn.Parameter(value))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)


def _gradients(model, step):
    draw = np.random.default_rng(step)
    used = {name: value for name, value in model.named_parameters() if name not in ("unused", "frozen")}
    # Coordinates of very different sizes, some of them exactly 0.
    return {
        name: draw.normal(size=tuple(value.shape))
        * 10.0 ** draw.integers(-6, 3)
        * (draw.random(tuple(value.shape)) > 0.2)
        for name, value in used.items()
    }


@pytest.mark.parametrize("multipliers", [None, {"p1": 0.25, "p3": 8.0}], ids=["plain", "multiplied"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name}-{config.lr}")
def test_optimizers_equal_numpy_twins_step_by_step(config, multipliers, numpy_optimizer):
    model = Ugly()
    optimizer = build_optimizer(model, config, multipliers)
    twin = numpy_optimizer(
        config, {name: value.detach().numpy() for name, value in model.named_parameters()}, multipliers
    )
    for step in range(20):
        factor = lr_factor(ScheduleConfig(name="cosine", warmup=4), step, 20)
        gradients = _gradients(model, step)
        for name, gradient in gradients.items():
            model.get_parameter(name).grad = torch.from_numpy(np.asarray(gradient))
        set_lr(optimizer, config.lr * factor)
        optimizer.step()
        twin.step(gradients, factor)
        for name, value in model.named_parameters():
            np.testing.assert_allclose(value.detach().numpy(), twin.weights[name], rtol=1e-12, atol=1e-13, err_msg=name)
    assert torch.equal(model.unused, torch.ones(2, dtype=torch.float64))
    assert torch.equal(model.frozen, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["lion", "adamw", "sgd"])
def test_decay_per_step_is_lr_times_decay_whatever_the_multiplier(name):
    model = build("B-1/Wi-64", image_size=2, num_classes=3, parametrization="mup", base_width=16).double()
    multipliers = lr_multipliers(model, name)
    assert len(set(multipliers.values())) > 1
    config = OptimizerConfig(name=name, lr=0.01, weight_decay=0.5)
    optimizer = build_optimizer(model, config, multipliers)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    set_lr(optimizer, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] * (1 - 0.005), rtol=1e-14, atol=0)
    by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, value in model.named_parameters():
        assert by_parameter[id(value)] == pytest.approx(0.01 * multipliers[name], rel=1e-15)


@pytest.mark.parametrize("total", [1, 2, 7, 50])
@pytest.mark.parametrize("warmup", [0, 1, 3, 7, 50, 1000])
def test_lr_factor_has_its_closed_form(warmup, total):
    for step in range(total):
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        assert lr_factor(ScheduleConfig(warmup=warmup), step, total) == rising
        cosine = lr_factor(ScheduleConfig(name="cosine", warmup=warmup), step, total)
        falling = math.cos(math.pi * (step - warmup) / (2 * (total - warmup))) ** 2 if step >= warmup else rising
        assert cosine == pytest.approx(falling, abs=1e-14)
        assert 0 < cosine <= 1


def test_the_cosine_ends_where_the_run_does():
    cosine = ScheduleConfig(name="cosine", warmup=2)
    assert lr_factor(cosine, 2, 10) == 1.0
    assert lr_factor(cosine, 6, 10) == pytest.approx(0.5)
    assert lr_factor(cosine, 10, 10) == 0.0
    assert lr_factor(ScheduleConfig(name="cosine"), 0, 10) == 1.0
