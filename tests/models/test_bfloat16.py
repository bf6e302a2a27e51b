import pytest
import torch
from torch.nn import functional as F

from mlptheory.models import bfloat16, build
from mlptheory.models.bfloat16 import linear, transposed


def _operands(n=37, inputs=65, outputs=300):
    draw = torch.Generator().manual_seed(0)
    shapes = (n, inputs), (outputs, inputs), (outputs,), (n, outputs)
    return [torch.randn(shape, generator=draw).bfloat16() for shape in shapes]


def test_outputs_are_torchs_and_gradients_are_exact_but_for_their_rounding():
    *arguments, gradient = _operands()
    own = [value.clone().requires_grad_() for value in arguments]
    exact = [value.double().requires_grad_() for value in arguments]
    output = linear(*own)
    assert torch.equal(output, F.linear(*arguments))
    output.backward(gradient)
    F.linear(*exact).backward(gradient.double())
    for mine, other in zip(own, exact, strict=True):
        assert mine.grad.dtype == torch.bfloat16 and mine.grad.is_contiguous()
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=2**-8, atol=1e-4)


def test_few_entries_have_other_bits_than_autocasts():
    inputs, weight, bias, gradient = _operands(512, 512, 512)
    own, theirs = (weight.clone().requires_grad_() for _ in range(2))
    linear(inputs, own, bias).backward(gradient)
    F.linear(inputs, theirs, bias).backward(gradient)
    assert (own.grad != theirs.grad).double().mean() < 1e-3


def test_only_wanted_gradients_are_made():
    inputs, weight, bias, gradient = _operands()
    weight.requires_grad_()
    linear(inputs, weight, bias).backward(gradient)
    assert inputs.grad is None and bias.grad is None
    assert torch.equal(weight.grad, transposed(gradient) @ inputs)


def test_it_can_be_mapped_over_models():
    inputs, weight, bias, _ = _operands()
    weights = torch.stack([weight, -weight])
    found = torch.func.vmap(lambda one: linear(inputs, one, bias))(weights)
    torch.testing.assert_close(found[1], F.linear(inputs, -weight, bias), rtol=2**-7, atol=1e-2)


SHAPES = [(1, 1), (3, 255), (5, 256), (7, 257), (64, 1000), (4, 0), (0, 4), (8, 8), (9, 7), (257, 33), (264, 40)]


@pytest.fixture(params=["compiled", "by torch"])
def way(request, monkeypatch):
    if request.param == "by torch":
        monkeypatch.setattr(bfloat16, "_library", lambda: None)
    elif bfloat16._library() is None:
        pytest.skip("there is no compiler")
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_the_transpose_lies_in_order(shape, way, threads):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        found = transposed(matrix)
        twice = transposed(transposed(matrix.t()).t())
    assert found.is_contiguous() and torch.equal(found, matrix.t())
    assert torch.equal(twice, matrix)


def test_what_is_no_plain_matrix_of_bfloat16_is_transposed_by_torch(way):
    numbers = torch.arange(6.0).view(2, 3)
    for matrix in (numbers, numbers.half(), torch._neg_view(numbers.bfloat16())):
        with torch.no_grad():
            assert torch.equal(transposed(matrix), matrix.t())


def test_a_gradients_gradient_is_torchs(way):
    inputs, weight, bias, gradient = _operands()
    found = []
    for function in (linear, F.linear):
        own, back = weight.clone().requires_grad_(), gradient.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(inputs, own, bias), own, back, create_graph=True)
        (second,) = torch.autograd.grad(first.float().square().sum(), back)
        found.append(second)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found, rtol=2**-6, atol=0.5)


def test_gradients_of_several_outputs_are_taken_at_once(way):
    inputs, weight, bias, gradient = _operands()
    weight.requires_grad_()
    output, several = linear(inputs, weight, bias), torch.stack([gradient, -gradient])
    (found,) = torch.autograd.grad(output, weight, several, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(output, weight, gradient)
    torch.testing.assert_close(found, torch.stack([one, -one]), rtol=2**-7, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_model_in_bfloat16_outside_of_autocast_is_torchs(monkeypatch):
    model = build("B-1/Wi-32", image_size=4, num_classes=5, seed=0).to(torch.bfloat16)
    inputs = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="must have the same dtype"):
        model(inputs)
    logits, slope = torch.func.jvp(model, (inputs.bfloat16(),), (inputs.bfloat16(),))
    assert logits.shape == slope.shape == (3, 5) and slope.abs().sum() > 0
    calls = []
    monkeypatch.setattr(bfloat16, "linear", lambda *arguments: calls.append(1) or linear(*arguments))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(inputs.bfloat16()), logits)
    assert len(calls) == 4
