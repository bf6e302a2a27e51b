import copy
import itertools

import pytest
import torch
from torch import nn

from mlptheory.base import InputError
from mlptheory.measures import empirical_ntk, empirical_ntk_by_layer, ntk_top_eigenvectors, ntk_vector_product, plan_ntk
from mlptheory.models import build


def jacobian(model, inputs):
    """The Jacobian in all trained parameters, one backward pass each output: (N, C, P), and the columns' modules."""
    model = copy.deepcopy(model).double()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = []
    for one in inputs.double():
        outputs = model(one[None]).flatten()
        for output in outputs:
            parts = torch.autograd.grad(output, list(trained.values()), retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.flatten() for part in parts]))
    owners = [name.rpartition(".")[0] for name, p in trained.items() for _ in range(p.numel())]
    return torch.stack(rows).view(len(inputs), len(outputs), -1), owners


def brute_force(model, x1, x2, outputs):
    a, b = jacobian(model, x1)[0], jacobian(model, x2)[0]
    full = torch.einsum("ncp,mdp->nmcd", a, b)
    return {"full": full, "trace": full.diagonal(dim1=2, dim2=3).sum(-1), "sum": full.sum((2, 3))}[outputs]


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_it_is_the_product_of_jacobians(case, twin, outputs, chunk):
    model, _, inputs, _ = case
    found = empirical_ntk(model, inputs, outputs=outputs, chunk=chunk, dtype=torch.float64)
    twin("empirical_ntk", found, brute_force(model, inputs, inputs, outputs))
    flat = found.permute(0, 2, 1, 3).flatten(0, 1).flatten(1, 2) if outputs == "full" else found
    assert torch.equal(flat, flat.T)


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_one_set_against_another(case, twin, outputs, chunk):
    model, _, inputs, _ = case
    other = inputs.flip(0)[: max(1, len(inputs) - 2)] * 0.7 + 0.1
    found = empirical_ntk(model, inputs, other, outputs, chunk=chunk, dtype=torch.float64)
    twin("empirical_ntk", found, brute_force(model, inputs, other, outputs))


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
def test_products_with_vectors_are_the_matrix_times_them(case, twin, outputs):
    model, _, inputs, _ = case
    other = inputs[:1] * 0.5
    kernel = brute_force(model, inputs, other, outputs)
    shape = (1, kernel.shape[-1]) if outputs == "full" else (1,)
    vector = torch.linspace(-1, 2, torch.Size(shape).numel(), dtype=torch.float64).view(shape)
    found = ntk_vector_product(model, vector, inputs, other, outputs, chunk=2, dtype=torch.float64)
    expected = torch.einsum("nmcd,md->nc", kernel, vector) if outputs == "full" else kernel @ vector
    twin("ntk_vector_product", found, expected)


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
def test_the_top_of_the_spectrum_without_the_matrix(case, twin, outputs):
    model, _, inputs, _ = case
    kernel = brute_force(model, inputs, inputs, outputs)
    if outputs == "full":
        kernel = kernel.permute(0, 2, 1, 3).flatten(2, 3).flatten(0, 1)
    values, vectors = torch.linalg.eigh(kernel)
    k = min(2, len(kernel))
    found = ntk_top_eigenvectors(model, inputs, k, outputs, tolerance=1e-8, dtype=torch.float64)
    assert found.converged
    twin("ntk_top_eigenvectors", found.values, values.flip(0)[:k], rtol=1e-9)
    first = found.vectors[0].flatten()
    if len(values) == 1 or values[-1] - values[-2] > 1e-3 * values[-1]:
        assert abs(first @ vectors[:, -1]).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
def test_layers_add_up_and_each_is_that_of_its_own_parameters(case, twin, outputs):
    model, _, inputs, _ = case
    found = empirical_ntk_by_layer(model, inputs, outputs=outputs, chunk=3, dtype=torch.float64)
    rows, owners = jacobian(model, inputs)
    assert set(found) == set(owners)
    assert list(found) == [name for name, _ in model.named_modules() if name in found]
    for layer, kernel in found.items():
        part = rows[..., [owner == layer for owner in owners]]
        full = torch.einsum("ncp,mdp->nmcd", part, part)
        expected = {"full": full, "trace": torch.einsum("nmcc->nm", full), "sum": full.sum((2, 3))}[outputs]
        twin("empirical_ntk_by_layer", kernel, expected)


class _Tokens(nn.Module):
    """A dense layer and a normalization over positions; sequence first where asked."""

    def __init__(self, sequence_first):
        super().__init__()
        self.sequence_first = sequence_first
        self.linear, self.norm, self.head = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        x = x.transpose(0, 1) if self.sequence_first else x
        x = self.norm(torch.tanh(self.linear(x)))
        return self.head(x).mean(dim=0 if self.sequence_first else 1)


class _Branching(nn.Module):
    """Calls other layers for other examples."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return torch.cat([(self.first if one.sum() > 0 else self.second)(one[None]) for one in x])


class _InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))

    def forward(self, x):
        return self.layers(x).mul_(2)


class _Unvectorizable(nn.Module):
    """Reads a number off a tensor, which vmap refuses."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.5, -0.5, 2.0]))

    def forward(self, x):
        return torch.stack([(one * self.scale).sin() * float(one[0]) for one in x])


def _hooked():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].register_forward_hook(lambda module, arguments, output: output * arguments[0].sum(dim=1, keepdim=True))
    return model


def _weight_normalized():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


class _Mixing(nn.Linear):
    """Centers its outputs over the batch."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        outputs = super().forward(x)
        return outputs - outputs.mean(dim=0)


class _Exploding(nn.Linear):
    """Divides by zero for all examples but the first."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        return super().forward(x) / (torch.arange(len(x))[:, None] == 0)


class _Summing(nn.Linear):
    """Sums over the batch."""

    def __init__(self):
        super().__init__(3, 3)

    def forward(self, x):
        return super().forward(x).sum(dim=0)


STRANGE = {
    "tokens": (lambda: _Tokens(False), (5, 4, 3)),
    "sequence first": (lambda: _Tokens(True), (5, 4, 3)),
    "sequence first, as long as the batch": (lambda: _Tokens(True), (4, 4, 3)),
    "sequence first, as long as two": (lambda: _Tokens(True), (5, 2, 3)),
    "branching": (_Branching, (6, 3)),
    "in place": (_InPlace, (5, 3)),
    "not for vmap": (_Unvectorizable, (4, 3)),
    "hooked": (_hooked, (5, 3)),
    "weight normalized": (_weight_normalized, (5, 3)),
    "grouped convolution": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Tanh(), nn.Linear(24, 2)),
        (3, 4, 4, 4),
    ),
    "dilated, strided, padded": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, (3, 2), stride=2, padding=1, dilation=(1, 2)), nn.Flatten()),
        (3, 2, 5, 5),
    ),
    "reflecting convolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten()),
        (3, 2, 4, 4),
    ),
    "convolution where pairs pay": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Tanh(), nn.Linear(8, 2)),
        (3, 8, 3, 3),
    ),
    "outputs in two axes": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3))), (3, 4)),
    "bias alone": (lambda: _frozen_weight(), (4, 3)),
}


def _frozen_weight():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
@pytest.mark.parametrize("name", STRANGE)
def test_modules_that_a_rule_would_get_wrong(name, outputs, twin):
    make, shape = STRANGE[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = make(), torch.randn(shape, dtype=torch.float64)
    for chunk in (None, 2):
        found = empirical_ntk(model, x, outputs=outputs, chunk=chunk, dtype=torch.float64)
        twin("empirical_ntk", found, brute_force(model, x, x, outputs))


def test_what_is_known_of_the_structure():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert plan_ntk(_hooked(), x).fallback == ()
    plan = plan_ntk(_weight_normalized(), x)
    normalized = "0.parametrizations.weight.original"
    assert plan.structured == ("2.weight", "2.bias")
    assert set(plan.fallback) == {"0.bias", f"{normalized}0", f"{normalized}1"}
    assert set(plan_ntk(_Tokens(True), torch.ones(5, 4, 3)).fallback) >= {"linear.weight", "norm.weight", "head.weight"}
    assert plan_ntk(_Tokens(False), torch.ones(5, 4, 3)).fallback == ()
    assert plan_ntk(_Unvectorizable(), x).fallback == ("scale",)


def test_it_is_that_of_the_papers_textbook_two_layer_net():
    # f(x) = a·relu(Wx): Θ = Σ_i relu(w_i·x) relu(w_i·x') + x·x' Σ_i a_i² 1[w_i·x > 0] 1[w_i·x' > 0].
    model = nn.Sequential(nn.Linear(4, 7, bias=False), nn.ReLU(), nn.Linear(7, 1, bias=False)).double()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    hidden = x @ model[0].weight.detach().T
    active, a = (hidden > 0).double(), model[2].weight.detach()[0]
    expected = hidden.relu() @ hidden.relu().T + (x @ x.T) * ((active * a**2) @ active.T)
    assert torch.allclose(empirical_ntk(model, x, outputs="trace"), expected, rtol=1e-13, atol=0)
    assert torch.allclose(empirical_ntk(model, x)[:, :, 0, 0], expected, rtol=1e-13, atol=0)


def test_the_callers_precision_is_not_inherited():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    plain = empirical_ntk(model, x)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found = empirical_ntk(model, x)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, plain) and found.dtype == torch.float32
    assert (found - empirical_ntk(model, x, dtype=torch.float64)).abs().max() < 1e-5 * plain.abs().max()


def test_a_half_precision_model_is_measured_in_float32():
    model = nn.Linear(3, 2).bfloat16()
    assert empirical_ntk(model, torch.eye(3), outputs="sum").dtype == torch.float32


def test_the_convention_is_with_the_result():
    model = build("S-1/Wi-4", image_size=3, channels=1, num_classes=2, parametrization="ntk")
    found = empirical_ntk(model, torch.ones(2, 1, 3, 3), outputs="trace")
    assert "outputs = 'trace', parametrization 'ntk'" in found.convention and "not divided by width" in found.convention


GOOD = {"model": nn.Linear(3, 2), "x1": torch.ones(4, 3)}


@pytest.mark.parametrize("measure", [empirical_ntk, empirical_ntk_by_layer, plan_ntk])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": "trce"}, "outputs = 'trce': unknown; did you mean 'trace'"),
        ({"chunk": 0}, "chunk = 0: expected an integer of at least 1"),
        ({"dtype": torch.float16}, "dtype = torch.float16: expected torch.float32, torch.float64 or None"),
        ({"memory_gib": 0}, "memory_gib = 0: expected"),
        ({"memory_gib": 1e-9}, "memory_gib = 1e-09: a kernel of 4 x 4 examples takes .* GiB in blocks of 1"),
        ({"memory_gib": 1e-9, "chunk": 3}, "takes .* GiB in blocks of 3"),
        ({"x1": torch.ones(0, 3)}, r"x1: expected a tensor of at least one example, found \(0, 3\)"),
        ({"x1": torch.ones(4, 3).half()}, "x1: expected float32 or float64, found torch.float16"),
        ({"x1": torch.tensor([[1.0, 2, 3], [1, float("nan"), 2]])}, "x1: example 1 is not finite"),
        ({"x2": torch.tensor([[1.0, float("inf"), 2]])}, "x2: example 0 is not finite"),
        ({"x2": torch.ones(4, 2)}, r"x2: expected examples of shape \(3,\) as in x1, found \(2,\)"),
        ({"model": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))}, "model.1: BatchNorm1d normalizes by the batch"),
        (
            {"model": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval()},
            "model.1: BatchNorm1d normalizes by the batch",
        ),
        ({"model": nn.Sequential(nn.Linear(3, 2), nn.Dropout())}, "model.1: Dropout drops at random in training mode"),
        ({"model": nn.Linear(3, 2).requires_grad_(False)}, "at least one parameter that requires a gradient"),
        ({"model": _Mixing(), "x1": torch.eye(3)}, "an example's outputs depend on the other examples"),
        ({"model": _Exploding()}, "the outputs of example 2 are not finite"),
        ({"model": _Summing()}, r"model: expected outputs of shape \(4, ...\), found \(3,\)"),
    ],
)
def test_what_cannot_be_is_refused(measure, arguments, message):
    with pytest.raises(InputError, match=message):
        measure(**{**GOOD, **arguments})


def test_the_vector_has_to_fit():
    with pytest.raises(InputError, match=r"vector: expected shape \(4, 2\), found \(4,\)"):
        ntk_vector_product(nn.Linear(3, 2), torch.ones(4), torch.ones(4, 3))
    with pytest.raises(InputError, match="k = 9: expected at most the 8 rows"):
        ntk_top_eigenvectors(nn.Linear(3, 2), torch.ones(4, 3), 9)


def test_blocks_are_as_large_as_the_memory_allows():
    model = build("B-2/Wi-16", image_size=8, channels=1, num_classes=3)
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    roomy, tight = plan_ntk(model, x, outputs="trace"), plan_ntk(model, x, outputs="trace", memory_gib=3e-4)
    assert roomy.chunk == 60 and 1 <= tight.chunk < 60 and tight.peak_gib <= 3e-4
    found = empirical_ntk(model, x, outputs="trace", memory_gib=3e-4)
    assert torch.allclose(found, empirical_ntk(model, x, outputs="trace"), rtol=1e-5)
    assert torch.equal(found, found.T)


def _peak_bytes(work):
    """The most that torch's allocator has given out beyond what it had, while something runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = work()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held), result


class _WithoutLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(64, 200) / 8), nn.Parameter(torch.ones(200, 5) / 8)

    def forward(self, x):
        return torch.tanh(x.flatten(1) @ self.first) @ self.second


PLANNED = {
    "S-MLP": lambda: build("S-3/Wi-64", image_size=8, channels=1, num_classes=5),
    "B-MLP": lambda: build("B-2/Wi-64", image_size=8, channels=1, num_classes=5),
    "CNN": lambda: build("CNN-2/Wi-8", image_size=8, channels=1, num_classes=5),
    "fallback": _WithoutLayers,
}


@pytest.mark.parametrize(("n", "m", "chunk"), [(60, None, None), (60, 40, None), (60, None, 20)])
@pytest.mark.parametrize("outputs", ["full", "trace", "sum"])
@pytest.mark.parametrize("name", PLANNED)
def test_the_plan_is_what_the_allocator_gives(name, outputs, n, m, chunk, twin):
    model, (x1, x2) = PLANNED[name](), (None if size is None else torch.rand(size, 1, 8, 8) for size in (n, m))
    plan = plan_ntk(model, x1, x2, outputs, chunk=chunk)
    peak, kernel = _peak_bytes(lambda: empirical_ntk(model, x1, x2, outputs, chunk=chunk))
    twin("plan_ntk", plan.peak_gib, peak / 2**30, rtol=0.25)
    assert plan.kernel_gib == kernel.numel() * kernel.element_size() / 2**30


def test_the_plan_counts_what_is_known():
    plan = plan_ntk(nn.Linear(1000, 2), torch.ones(300, 1000), torch.ones(200, 1000), dtype=torch.float64)
    assert plan.shape == (300, 200, 2, 2)
    assert plan.kernel_gib == 300 * 200 * 4 * 8 / 2**30
    assert plan.peak_gib > plan.kernel_gib + 2000 * 8 / 2**30 and plan.seconds > 0
