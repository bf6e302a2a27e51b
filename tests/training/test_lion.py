import copy
from pathlib import Path

import pytest
import torch
from lion_pytorch import Lion
from torch import nn

from mlptheory.base import native
from mlptheory.models import build
from mlptheory.training import lion
from mlptheory.training.copies import WeightCopies
from mlptheory.training.lion import BLOCK, BlockedLion

SHAPES = [(), (1,), (0, 4), (7, 5), (BLOCK,), (2, BLOCK - 5)]


@pytest.fixture(params=["compiled", "in blocks"])
def way(request, monkeypatch):
    if request.param == "in blocks":
        monkeypatch.setattr(lion, "_is_compiled", lambda: False)
    elif lion._library() is None:
        pytest.skip("there is no compiler")
    return request.param


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
def test_every_bit_is_lion_pytorchs(threads, way, dtype, weight_decay):
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


def test_a_copys_gradient_stands_for_the_parameters_and_the_copy_is_written(way):
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


AWKWARD = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-42, 3e38, 1.0, -1e-3, 2.0]


@pytest.mark.parametrize("kept", [1.0, 1 - 3e-5])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("has_copy", [True, False])
def test_compiled_code_has_the_bits_of_torch_for_every_pair_of_awkward_numbers(kept, narrow, has_copy):
    if lion._library() is None:
        pytest.skip("there is no compiler")
    weights, means, gradients = torch.cartesian_prod(*[torch.tensor(AWKWARD)] * 3).T.contiguous()
    gradients = gradients.bfloat16() if narrow else gradients
    found = []
    for step in (lion._step_at_once, lion._step_in_blocks):
        own = [weights.clone(), means.clone(), torch.zeros(1_000, dtype=torch.bfloat16) if has_copy else None]
        for _ in range(2):
            step(own[0], own[1], gradients, own[2], lr=0.3, kept=kept, beta1=0.9, beta2=0.98)
        found.append([each for each in own if each is not None])
    for mine, torchs in zip(*found, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=0, atol=0, equal_nan=True)
        # Zeros have signs, which comparisons do not see.
        assert torch.equal(mine.signbit() & ~mine.isnan(), torchs.signbit() & ~torchs.isnan())


def test_copies_are_rounded_as_torch_rounds():
    if lion._library() is None:
        pytest.skip("there is no compiler")
    bits = torch.arange(-(2**31), 2**31, 9_973, dtype=torch.int64).to(torch.int32)
    weights = bits.view(torch.float32).clone()
    expected, copy_ = weights.clone(), torch.empty_like(weights, dtype=torch.bfloat16)
    nothing = torch.zeros_like(weights)
    lion._step_at_once(weights, nothing.clone(), nothing, copy_, lr=0.0, kept=1.0, beta1=0.9, beta2=0.98)
    torch.testing.assert_close(copy_, expected.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_code_that_rounds_otherwise_is_not_used(tmp_path, monkeypatch):
    if lion._library() is None:
        pytest.skip("there is no compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = Path(lion.__file__).with_suffix(".c").read_text()
    other = tmp_path / "lion.c"
    for old, new in (
        ("gradient, rest2, mean * beta2", "0.0f, 0.0f, gradient * rest2 + mean * beta2"),
        ("#define", " #define"),
    ):
        other.write_text(text.replace(old, new))
        library = native.compiled.__wrapped__(other)
        library.lion.argtypes, library.lion.restype = lion._library().lion.argtypes, None
        with monkeypatch.context() as patch:
            patch.setattr(lion, "_library", lambda library=library: library)
            assert lion._is_compiled.__wrapped__() == (new == " #define")


def test_autograd_and_copies_see_the_step(way):
    parameter = nn.Parameter(torch.ones(5))
    output = (parameter * parameter).sum()
    output.backward(retain_graph=True)
    version = parameter._version
    BlockedLion([parameter], lr=0.1).step()
    assert parameter._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_a_mean_in_float64_is_not_read_as_float32(way):
    found = []
    for kind in (BlockedLion, Lion):
        layer = nn.Linear(3, 2).double()
        nn.init.constant_(layer.weight, 0.1)
        optimizer = kind([layer.weight], lr=0.1)
        for dtype in (torch.float64, torch.float32):
            layer.to(dtype).zero_grad()
            layer(torch.ones(1, 3, dtype=dtype)).sum().backward()
            optimizer.step()
        found.append((layer.weight.detach(), optimizer.state[layer.weight]["exp_avg"]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=0)


def _step_of(parameter, gradient, mean=None):
    optimizer = BlockedLion([parameter], lr=0.1)
    parameter.grad = gradient
    if mean is not None:
        optimizer.state[parameter]["exp_avg"] = mean
    optimizer.step()
    return parameter.detach()


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized:UserWarning")
def test_a_mean_of_another_size_is_an_error_not_memory_overwritten(way):
    with pytest.raises(RuntimeError, match="size of tensor"):
        _step_of(nn.Parameter(torch.ones(5)), torch.ones(5), torch.ones(3))


def test_what_an_address_does_not_say_is_left_to_torch(way):
    assert torch.equal(_step_of(nn.Parameter(torch.ones(4)), torch._neg_view(torch.ones(4))), torch.full((4,), 1.1))
    assert torch.equal(_step_of(nn.Parameter(torch.ones(4)), torch._efficientzerotensor(4)), torch.ones(4))


def test_the_default_device_is_not_where_compiled_code_is_tried():
    with torch.device("meta"):
        assert lion._is_compiled.__wrapped__() == lion._is_compiled()
