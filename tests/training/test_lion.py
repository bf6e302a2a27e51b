import copy

import pytest
import torch
from lion_pytorch import Lion
from torch import nn

from mlptheory.models import build
from mlptheory.training.copies import WeightCopies
from mlptheory.training.lion import BLOCK, BlockedLion

SHAPES = [(), (1,), (0, 4), (7, 5), (BLOCK,), (2, BLOCK - 5)]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _parameters(dtype=torch.float32, device="cpu"):
    draw = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=draw, dtype=dtype).to(device)) for shape in SHAPES]


def _give_gradients(parameters, step):
    draw = torch.Generator().manual_seed(100 + step)
    for parameter in parameters[:-1] if step == 1 else parameters:
        gradient = torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
        parameter.grad = (gradient * 10.0 ** (step - 3)).to(parameter.device)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_bit_is_lion_pytorchs(threads, dtype, weight_decay):
    own, others = _parameters(dtype), _parameters(dtype)
    ours = BlockedLion(own, lr=3e-3, betas=(0.9, 0.98), weight_decay=weight_decay)
    theirs = Lion(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=weight_decay)
    for step in range(3):
        for optimizer, parameters in ((ours, own), (theirs, others)):
            optimizer.zero_grad()
            _give_gradients(parameters, step)
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 0.7
        for mine, other in zip(own, others, strict=True):
            assert torch.equal(mine, other)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
    for mine, other in zip(ours.state.values(), theirs.state.values(), strict=True):
        assert list(mine) == list(other) == ["exp_avg"] and torch.equal(mine["exp_avg"], other["exp_avg"])


def _check_one_operation_for_all(device):
    own, others = _parameters(device=device), _parameters(device=device)
    options = {"lr": 3e-3, "betas": (0.9, 0.98), "weight_decay": 0.3}
    ours, theirs = BlockedLion(own, **options), Lion(others, **options)
    for step in range(4):
        for parameters in (own, others):
            _give_gradients(parameters, step)
        ours._step_together(own, [parameter.grad for parameter in own], ours.param_groups[0])
        theirs.step()
    for mine, other in zip(own, others, strict=True):
        assert torch.equal(mine, other)


@torch.no_grad()
def test_one_operation_for_all_parameters_gives_the_same_bits():
    _check_one_operation_for_all("cpu")


@pytest.mark.cuda
@torch.no_grad()
def test_one_operation_for_all_parameters_gives_the_same_bits_on_cuda():
    _check_one_operation_for_all("cuda")


def test_a_parameter_that_does_not_lie_in_order_is_stepped_as_well():
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    own, other = nn.Parameter(values.t().clone(memory_format=torch.preserve_format)), nn.Parameter(values.t().clone())
    assert not own.is_contiguous()
    for parameter, kind in ((own, BlockedLion), (other, Lion)):
        parameter.grad = torch.ones_like(parameter).tril()
        kind([parameter], lr=0.1, weight_decay=0.2).step()
    assert torch.equal(own, other)


def test_a_copys_gradient_stands_for_the_parameters_and_the_copy_is_written():
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0)
    twin = copy.deepcopy(model)
    copies = WeightCopies(model)
    ours, theirs = BlockedLion(model.parameters(), lr=0.01, copies=copies), Lion(twin.parameters(), lr=0.01)
    for step in range(3):
        draw = torch.Generator().manual_seed(step)
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            gradient = torch.randn(mine.shape, generator=draw).bfloat16()
            other.grad = gradient.float()
            held = copies.of(mine)
            (mine if held is None else held).grad = gradient.float() if held is None else gradient
        ours.step()
        theirs.step()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
        held = copies.of(mine)
        assert held is None or torch.equal(held, mine.bfloat16())


def test_a_closure_is_called():
    parameter = nn.Parameter(torch.ones(2))

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert BlockedLion([parameter], lr=0.1).step(closure).item() == 2.0
    assert torch.equal(parameter.detach(), torch.full((2,), 0.9))
