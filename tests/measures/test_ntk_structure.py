"""Models whose structure is misread, unnoticed, by who looks at the gradients of a few examples only."""

import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import checkpoint

from mlptheory.base import InputError
from mlptheory.measures import empirical_ntk, empirical_ntk_by_layer, plan_ntk
from mlptheory.models import build


def brute_force(model, x1, x2):
    """The full kernel, of the model itself, one example and one output at a time."""

    def rows(inputs):
        trained = [p for p in model.parameters() if p.requires_grad]
        found = []
        for one in inputs:
            outputs = model(one[None].clone()).flatten()
            gradients = [torch.autograd.grad(o, trained, retain_graph=True, materialize_grads=True) for o in outputs]
            found.append(torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients]))
        return torch.stack(found)

    return torch.einsum("ncp,mdp->nmcd", rows(x1), rows(x2))


def _draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class _Function(nn.Module):
    """Modules by name, and a forward pass."""

    def __init__(self, forward, **modules):
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self._forward(self, x)


def _layers(*sizes, **options):
    return {
        name: nn.Linear(fan_in, fan_out, **options)
        for name, fan_in, fan_out in zip("abc", sizes, sizes[1:], strict=False)
    }


def _tied_where_it_lives():
    # At zero inputs no hidden unit is alive, and the decoder's use of the weight has no gradient.
    model = _Function(lambda m, x: F.relu(m.a(x)) @ m.a.weight, **_layers(4, 5))
    model.a.bias.data.zero_()
    inputs = _draw(7, 4)
    inputs[::2] = 0
    return model, inputs


def _used_beside_for_some():
    inputs = _draw(7, 4)
    inputs[::2, 0] = -1
    return _Function(lambda m, x: m.a(x) + F.relu(x[:, :1]) * (x @ m.a.weight.T), **_layers(4, 3)), inputs


def _inputs_changed_in_place():
    return _Function(lambda m, x: torch.tanh(m.a(x.mul_(2).sub_(0.3))), **_layers(4, 3)), _draw(5, 4)


def _inputs_changed_in_place_without_a_rule():
    model = _Function(lambda m, x: torch.tanh(x.mul_(2).sub_(0.3) * m.scale), scale=nn.Parameter(_draw(4)))
    return model, _draw(5, 4)


def _forward_of_its_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].bias.data.zero_()
    model[0].forward = types.MethodType(lambda self, x: F.linear(x, self.weight**2, self.bias), model[0])
    inputs = _draw(7, 4)
    inputs[::2] = -1
    return model, inputs


class _Standardized(nn.Conv2d):
    def _conv_forward(self, inputs, weight, bias):
        return super()._conv_forward(inputs, weight - weight.mean(), bias)


def _overridden_inside():
    model = nn.Sequential(_Standardized(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    model[0].bias.data.fill_(-1)
    inputs = _draw(7, 2, 4, 4) * 5
    inputs[::2] = 0
    return model, inputs


def _sequence_first(m, x):
    return m.b(F.relu(m.a(x.transpose(0, 1))).sum(0))


def _as_long_as_the_batch(length):
    inputs = _draw(5, length, 3)
    inputs[::2] = 0
    return _Function(_sequence_first, **_layers(3, 4, 2, bias=False)), inputs


def _sorted_first():
    def forward(m, x):
        order = x[:, 0].argsort()
        return m.b(torch.tanh(m.a(x[order]))[order.argsort()])

    inputs = _draw(6, 4)
    inputs[:, 0] = torch.tensor([-5.0, -4, 3, 1, 2, 0])
    return _Function(forward, **_layers(4, 3, 2)), inputs


def _layer_on_a_parameter():
    inputs = _draw(2, 4)
    inputs[1] = 0
    return _Function(lambda m, x: x @ m.a(m.queries).T, queries=nn.Parameter(_draw(2, 4)), **_layers(4, 4)), inputs


def _derivative_of_a_net():
    def forward(m, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(m.b(torch.tanh(m.a(x))).sum(), x, create_graph=True)[0]

    return _Function(forward, **_layers(2, 5, 1)), _draw(5, 2)


def _checkpointed():
    def forward(m, x):
        hidden = checkpoint.checkpoint(lambda h: torch.tanh(m.b(h)), torch.tanh(m.a(x)), use_reentrant=False)
        return m.c(hidden)

    return _Function(forward, **_layers(4, 5, 5, 2)), _draw(5, 4)


def _output_changed_as_a_view():
    return _Function(lambda m, x: m.b(m.a(x).relu_().mean(1)), **_layers(3, 4, 2)), _draw(5, 4, 3)


def _called_by_keyword():
    return _Function(lambda m, x: m.b(torch.tanh(m.a(input=x))), **_layers(4, 3, 2)), _draw(5, 4)


def _routed():
    def forward(m, x):
        outputs, here = x.new_zeros(len(x), 3), x[:, 0] > 0
        outputs[here], outputs[~here] = m.a(x[here]), m.b(x[~here])
        return outputs

    return _Function(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 3)), _draw(6, 4)


def _attention():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0)
    return _Function(lambda m, x: m.a(m.layer(x).mean(1)), layer=layer, **_layers(4, 2)), _draw(4, 3, 4)


def _recurrent():
    return _Function(lambda m, x: m.a(m.r(x)[0][:, -1]), r=nn.LSTM(3, 4, batch_first=True), **_layers(4, 2)), _draw(
        4, 3, 3
    )


def _embedded():
    model = _Function(lambda m, x: m.a(torch.tanh(m.e(x.long())).mean(1)), e=nn.Embedding(5, 4), **_layers(4, 5))
    model.a.weight = model.e.weight
    return model, torch.tensor([[0.0, 1], [2, 2], [3, 4], [1, 4]], dtype=torch.float64)


def _in_balance():
    # Zero at the start, as the difference of two equal nets; which is not equal to the last bit after another order.
    model = _Function(lambda m, x: m.b(torch.tanh(m.a(x))) - m.frozen(torch.tanh(m.a(x)).flip(1)), **_layers(4, 30, 2))
    model.frozen = nn.Linear(30, 2).requires_grad_(False)
    model.frozen.weight.data, model.frozen.bias.data = model.b.weight.data.flip(1), model.b.bias.data.clone()
    return model, _draw(9, 4)


MISREAD = {
    "a tied weight where hidden units live": _tied_where_it_lives,
    "used beside its layer for some": _used_beside_for_some,
    "inputs changed in place": _inputs_changed_in_place,
    "inputs changed in place, no rule": _inputs_changed_in_place_without_a_rule,
    "a forward of its own": _forward_of_its_own,
    "overridden inside": _overridden_inside,
    "sequence first, of 2": lambda: _as_long_as_the_batch(2),
    "sequence first, of 4": lambda: _as_long_as_the_batch(4),
    "sorted first": _sorted_first,
    "a layer on a parameter": _layer_on_a_parameter,
    "the derivative of a net": _derivative_of_a_net,
    "checkpointed": _checkpointed,
    "output changed as a view": _output_changed_as_a_view,
    "called by keyword": _called_by_keyword,
    "routed": _routed,
    "attention": _attention,
    "recurrent": _recurrent,
    "embedded, and tied": _embedded,
    "outputs in balance": _in_balance,
}


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("name", MISREAD)
def test_no_structure_is_believed_by_luck(name, chunk, twin):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = MISREAD[name]()
    model = model.double().eval()
    before = x.clone()
    found = empirical_ntk(model, x, chunk=chunk, dtype=torch.float64)
    twin("empirical_ntk", found, brute_force(model, x, x), rtol=1e-9)
    other = x[1:4] * 1
    layers = empirical_ntk_by_layer(model, x, other, chunk=chunk, dtype=torch.float64)
    twin("empirical_ntk_by_layer", sum(layers.values()), brute_force(model, x, other), rtol=1e-9)
    plan = plan_ntk(model, x, chunk=chunk, dtype=torch.float64)
    trained = sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    assert sorted(plan.structured + plan.fallback) == trained
    assert torch.equal(x, before)


def test_a_parameter_that_is_not_registered_is_refused():
    hidden = [nn.Parameter(_draw(4, 3))]
    model = _Function(lambda m, x: m.a(x) * (x @ hidden[0]), **_layers(4, 3)).double()
    with pytest.raises(InputError, match=r"parameter of shape \(4, 3\) that requires a gradient and is not registered"):
        empirical_ntk(model, _draw(3, 4))
    hidden[0].requires_grad_(False)
    twin = brute_force(model, _draw(3, 4), _draw(3, 4))
    torch.testing.assert_close(empirical_ntk(model, _draw(3, 4)), twin, rtol=1e-10, atol=0)


class _Counting(nn.Module):
    """Its outputs depend on how often it was called."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3).double(), 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x) * self.calls


def _of_neighbors(m, x):
    return m.a(x - x.mean(0))


DEPENDENT = {
    "on the batch": lambda: _Function(_of_neighbors, **_layers(4, 3)).double(),
    "on earlier calls": _Counting,
    "on chance": lambda: _Function(lambda m, x: m.a(x * torch.rand_like(x)), **_layers(4, 3)).double(),
    "on the batch, for some": lambda: _Function(
        lambda m, x: m.a(torch.where(x[:, :1] > 0, x - x[:, :1].clamp(min=0).sum(), x)), **_layers(4, 3)
    ).double(),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_outputs_that_are_no_function_of_an_example_are_refused(name):
    inputs = _draw(6, 4)
    inputs[:, 0] = torch.tensor([1.0, 2, 1, 3, 1, 2])
    with pytest.raises(InputError, match="depend on the other examples, on chance or on earlier calls"):
        empirical_ntk(DEPENDENT[name](), inputs)


@pytest.mark.parametrize("name", ["S-2/Wi-8", "B-2/Wi-8", "MLP-2/Wi-8"])
@pytest.mark.parametrize("parametrization", ["standard", "ntk", "mup"])
def test_mlps_of_this_package_need_no_jacobian(name, parametrization):
    model = build(name, image_size=4, channels=1, num_classes=3, parametrization=parametrization)
    assert plan_ntk(model, torch.randn(5, 1, 4, 4)).fallback == ()
