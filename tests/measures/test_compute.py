import math

import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.measures import count_flops, count_macs, training_compute
from mlptheory.models import build, count_parameters

OPTIONS = [{}, {"norm": "none"}, {"norm": "batch"}, {"parametrization": "ntk"}, {"dropout": 0.5}]


def _meta(name, shape, classes, **options):
    with torch.device("meta"):
        return build(name, image_size=shape[1:], channels=shape[0], num_classes=classes, **options)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 7)])
@pytest.mark.parametrize("options", OPTIONS)
def test_macs_of_mlps_are_their_matrices(shape, options, twin):
    d = math.prod(shape)
    for depth, width in ((1, 6), (3, 11)):
        standard = d * width + depth * width**2 + width * 13
        meta = _meta(f"S-{depth}/Wi-{width}", shape, 13, **options)
        twin("count_macs", count_macs(meta, shape), standard, rtol=0)
        twin("count_flops", count_flops(meta, shape), 2 * standard, rtol=0)
        real = build(f"S-{depth}/Wi-{width}", image_size=shape[1:], channels=shape[0], num_classes=13, **options)
        assert count_macs(real, shape) == standard
        plain = d * width + (depth - 1) * width**2 + width * 13
        assert count_macs(_meta(f"MLP-{depth}/Wi-{width}", shape, 13, **options), shape) == plain
        for expansion in (1, 4):
            bottleneck = d * width + depth * 2 * expansion * width**2 + width * 13
            name = f"B-{depth}/Wi-{width}/E-{expansion}"
            assert count_macs(_meta(name, shape, 13, **options), shape) == bottleneck


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_macs_of_a_cnn_count_every_position_of_every_kernel(size, parametrization, twin):
    side, channels, macs = size, 3, 0
    for block in range(3):
        side = side if block == 0 else -(-side // 2)
        macs += side**2 * 9 * channels * 5 * 2**block
        channels = 5 * 2**block
    macs += channels * 7
    model, shape = _meta("CNN-3/Wi-5", (3, size, size), 7, parametrization=parametrization), (3, size, size)
    twin("count_macs", count_macs(model, shape), macs, rtol=0)
    twin("count_flops", count_flops(model, shape), 2 * macs, rtol=0)


def test_macs_of_the_papers_model_are_the_papers():
    # Table 7: 66.89 M parameters, 66.8 M "FLOPs".
    model = _meta("B-12/Wi-768", (3, 64, 64), 1000)
    assert count_macs(model, (3, 64, 64)) == 66_828_288
    assert count_parameters(model) == 66_894_568


def test_the_model_is_handed_back_as_it_came():
    model = build("B-2/Wi-6", image_size=4, num_classes=3, norm="batch", dropout=0.5)
    model.blocks[1].eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    assert count_macs(model, (3, 4, 4)) == 48 * 6 + 2 * 2 * 4 * 36 + 18
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "head.weight")
    assert torch.equal(torch.get_rng_state(), rng)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(InputError, match="was built for"):
        count_macs(model, (3, 5, 5))
    assert [module.training for module in model.modules()] == modes


def test_any_torch_module_in_any_dtype_counts():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.Tanh(), nn.Linear(5, 2)).double()
    assert count_macs(model, [3, 2, 2]) == 70
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert count_macs(model.float(), (3, 2, 2)) == 70


class _Restless(nn.Module):
    """Draws, counts its calls and normalizes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.norm(self.linear(x + torch.rand_like(x)))


def test_a_forward_pass_that_draws_and_writes_to_buffers_leaves_nothing_behind():
    model, rng = _Restless(), torch.get_rng_state()
    assert count_macs(model, (4,)) == 12 and count_flops(model, (4,)) == 24
    assert model.calls == 0 and torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_count_is_the_same_whatever_the_caller_records(mode):
    model = build("CNN-2/Wi-2", image_size=4, channels=1, num_classes=3)
    expected = count_macs(model, (1, 4, 4))
    with mode():
        assert count_macs(model, (1, 4, 4)) == expected


def test_without_parameters_nothing_is_multiplied():
    assert count_macs(nn.Flatten(), (3, 2, 2)) == 0


def test_conventions_are_told_apart():
    assert "half as many as FLOPs" in count_macs.convention
    assert "2 to a multiply-accumulate" in count_flops.convention
    cost = training_compute(macs=1, parameters=1, examples=1)
    assert cost.convention == training_compute.convention


@pytest.mark.parametrize("shape", [(3, 0, 2), (3, -1, 2), (3, 2.0, 2), ("3",)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(InputError, match="input_shape = "):
        count_macs(nn.Flatten(), shape)


def test_training_compute_has_both_conventions(twin):
    cost = training_compute(macs=66_828_288, parameters=66_894_568, examples=1_000, epochs=50)
    # Example by example: a forward pass, and a backward pass of two; 2 FLOPs to a parameter in each of the three.
    macs = sum(66_828_288 * passes for _ in range(50_000) for passes in (1, 2))
    flops = sum(2 * 66_894_568 for _ in range(50_000) for _ in range(3))
    twin("training_compute", [cost.paper_macs, cost.flops_6pnt], [macs, flops], rtol=0)
    assert cost.flops_6pnt / cost.paper_macs == pytest.approx(2, rel=1e-3)
    assert training_compute(macs=1, parameters=1, examples=0).paper_macs == 0


@pytest.mark.parametrize("argument", ["macs", "parameters", "examples", "epochs"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_what_is_no_count_is_refused(argument, value):
    good = {"macs": 1, "parameters": 1, "examples": 1, "epochs": 1}
    with pytest.raises(InputError, match=f"{argument} = "):
        training_compute(**{**good, argument: value})
