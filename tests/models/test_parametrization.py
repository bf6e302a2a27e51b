import math

import numpy as np
import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.base.random import torch_generator
from mlptheory.models import build
from mlptheory.models.layers import Convolution, Dense
from mlptheory.models.parametrization import NTK_BIAS_STD, NTK_WEIGHT_STD, layer_rule, optimizer_column


def parameters(model):
    return {name: value.detach() for name, value in model.named_parameters()}


def same_bits(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_standard_is_pytorchs_default_bit_for_bit():
    model = build("B-2/Wi-24", image_size=5, num_classes=7, seed=3)
    with torch.random.fork_rng():
        # The seed of the generator that the model draws from.
        torch.manual_seed(torch_generator(3, "initialization").initial_seed())
        layers = [nn.Linear(75, 24)]
        layers += [layer for _ in range(2) for layer in (nn.Linear(24, 96), nn.Linear(96, 24))]
        layers += [nn.Linear(24, 7)]
    dense = [module for module in model.modules() if isinstance(module, Dense)]
    assert len(dense) == len(layers)
    for ours, theirs in zip(dense, layers, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


def test_standard_convolutions_are_pytorchs_default_bit_for_bit():
    model = build("CNN-2/Wi-8", image_size=5, num_classes=7, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(torch_generator(3, "initialization").initial_seed())
        first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)
    ours = [module for module in model.modules() if isinstance(module, Convolution)]
    for one, theirs in zip(ours, (first, second), strict=True):
        assert torch.equal(one.weight, theirs.weight)
        assert torch.equal(one.bias, theirs.bias)


@pytest.mark.parametrize("name", ["S-2/Wi-64", "B-2/Wi-64", "MLP-2/Wi-64", "CNN-2/Wi-64"])
def test_mup_at_the_base_width_is_standard_bit_for_bit(name):
    options = {"image_size": 4, "num_classes": 5, "seed": 1}
    standard, mup = build(name, **options), build(name, parametrization="mup", base_width=64, **options)
    x = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert same_bits(standard, mup)
    assert torch.equal(standard(x), mup(x))


@pytest.mark.parametrize("name", ["S-1/Wi-512", "B-1/Wi-512"])
def test_mup_above_the_base_width(name):
    model = build(name, image_size=4, num_classes=500, parametrization="mup", base_width=128)
    bounds = {path: float(value.abs().max()) for path, value in parameters(model).items() if "norm" not in path}
    expected = {"embedding.weight": 48, "embedding.bias": 48, "head.weight": 128, "head.bias": 128}
    if name[0] == "S":
        expected |= {"blocks.0.linear.weight": 512, "blocks.0.linear.bias": 128}
    else:
        expected |= {"blocks.0.expand.weight": 512, "blocks.0.expand.bias": 128}
        expected |= {"blocks.0.contract.weight": 2048, "blocks.0.contract.bias": 512}
    assert bounds.keys() == expected.keys()
    for path, fan_in in expected.items():
        assert 0.97 < bounds[path] * math.sqrt(fan_in) <= 1, path
    z = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    head = model.head
    torch.testing.assert_close(head(z), z @ head.weight.T / 4 + head.bias)


def test_ntk_draws_unit_normals_and_scales_them_in_the_forward_pass():
    model = build("B-1/Wi-256", image_size=4, num_classes=300, parametrization="ntk").double()
    for path, value in parameters(model).items():
        if "norm" not in path and value.numel() > 200:
            deviation = value.std().item()
            # Five standard errors of a standard deviation of as many normal draws.
            assert abs(deviation - 1) < 5 / math.sqrt(2 * value.numel()), path
    z = torch.randn(3, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layer, fan_in in ((model.blocks[0].expand, 256), (model.head, 256)):
        expected = NTK_WEIGHT_STD * z @ layer.weight.T / math.sqrt(fan_in) + NTK_BIAS_STD * layer.bias
        torch.testing.assert_close(layer(z), expected, rtol=1e-12, atol=1e-12)


def test_ntk_convolutions_count_their_taps():
    layer = build("CNN-1/Wi-4", image_size=6, num_classes=3, parametrization="ntk").double().blocks[0].convolution
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = NTK_WEIGHT_STD / math.sqrt(27)
    expected = nn.functional.conv2d(x, layer.weight * scale, layer.bias * NTK_BIAS_STD, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_ntk_preactivations_have_the_variance_of_the_infinite_net():
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    draws = [
        build("S-1/Wi-64", image_size=4, num_classes=2, parametrization="ntk", seed=seed).intermediates(x)["embedding"]
        for seed in range(100)
    ]
    variance = NTK_WEIGHT_STD**2 * float(x.square().sum()) / 48 + NTK_BIAS_STD**2
    found = torch.cat(draws, 1).detach().square().mean().item()
    assert abs(found / variance - 1) < 5 * math.sqrt(2 / 6400)


def test_scaled_layers_do_not_pass_for_linear_ones():
    for parametrization in ("ntk", "mup"):
        model = build("S-1/Wi-8", image_size=2, num_classes=2, parametrization=parametrization, base_width=2)
        assert not isinstance(model.head, nn.Linear)
    assert isinstance(build("S-1/Wi-8", image_size=2, num_classes=2).head, nn.Linear)


def test_the_table_of_mup():
    sizes = {role: layer_rule("mup", role, 400, 4.0) for role in ("input", "hidden", "output")}
    assert [sizes[role].weight_lr for role in sizes] == [(4.0, 1.0), (1.0, 0.25), (4.0, 1.0)]
    assert [sizes[role].bias_lr for role in sizes] == [(4.0, 1.0), (4.0, 1.0), (1.0, 1.0)]
    assert [sizes[role].weight_scale for role in sizes] == [1.0, 1.0, 0.25]
    np.testing.assert_allclose([sizes[role].weight_size for role in sizes], [1 / 20, 1 / 20, 1 / 10])
    np.testing.assert_allclose([sizes[role].bias_size for role in sizes], [1 / 20, 1 / 10, 1 / 10])


def test_optimizers_share_columns():
    assert [optimizer_column(optimizer) for optimizer in ("sgd", "adamw", "lion")] == [0, 1, 1]
    with pytest.raises(InputError, match="optimizer = 'adam': unknown; did you mean 'adamw'"):
        optimizer_column("adam")
