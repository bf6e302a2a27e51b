"""After every measure of a model, the model and torch are as they were before."""

import inspect
import tempfile

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mlptheory.measures as measures
from mlptheory.models import build

IMAGES = (1, 4, 4)
N = 8


def _loss(logits, targets):
    return F.cross_entropy(logits, targets)


def _losses(logits, targets):
    return F.cross_entropy(logits, targets, reduction="none")


def _streamed(model, x, y):
    with tempfile.TemporaryDirectory() as folder:
        return measures.stream_ntk(f"{folder}/k.npy", model, x, progress=False)


def _optimizer(model):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for p in model.parameters():
        optimizer.state[p] = {"step": torch.tensor(3.0), "exp_avg": p.detach() * 0, "exp_avg_sq": p.detach() ** 2 + 1}
    return optimizer


# Every public measure that takes a model, as a function of a model, inputs and labels.
CALLS = {
    "adam_preconditioner": lambda m, x, y: measures.adam_preconditioner(m, _optimizer(m)),
    "average_gradient_outer_product": lambda m, x, y: measures.average_gradient_outer_product(m, x),
    "count_flops": lambda m, x, y: measures.count_flops(m, IMAGES),
    "count_macs": lambda m, x, y: measures.count_macs(m, IMAGES),
    "empirical_ntk": lambda m, x, y: measures.empirical_ntk(m, x),
    "empirical_ntk_by_layer": lambda m, x, y: measures.empirical_ntk_by_layer(m, x, outputs="trace"),
    "equivariance_error": lambda m, x, y: measures.equivariance_error(m, lambda v: v.flip(-1), x, lambda v: v),
    "feature_alignment": lambda m, x, y: measures.feature_alignment(m, x),
    "first_layer_filters": lambda m, x, y: measures.first_layer_filters(m),
    "gradient_noise_scale": lambda m, x, y: measures.gradient_noise_scale(m, _losses, x, y),
    "hessian_spectral_density": lambda m, x, y: measures.hessian_spectral_density(m, _loss, x, y, probes=2, steps=4),
    "hessian_top_eigenvalues": lambda m, x, y: measures.hessian_top_eigenvalues(m, _loss, x, y, max_products=5),
    "hessian_trace": lambda m, x, y: measures.hessian_trace(m, _loss, x, y, products=30, repetitions=2),
    "invariance_error": lambda m, x, y: measures.invariance_error(m, lambda v: v.flip(-1), x),
    "keskar_sharpness": lambda m, x, y: measures.keskar_sharpness(m, _loss, x, y, iterations=2),
    "linear_mode_barrier": lambda m, x, y: measures.linear_mode_barrier(m, m, _loss, x, y, 3),
    "linearize": lambda m, x, y: measures.linearize(m)(x).detach(),
    "match_hidden_units": lambda m, x, y: measures.match_hidden_units(m, m),
    "normalized_margins": lambda m, x, y: measures.normalized_margins(m, x, y),
    "ntk_top_eigenvectors": lambda m, x, y: measures.ntk_top_eigenvectors(m, x, max_products=4),
    "ntk_vector_product": lambda m, x, y: measures.ntk_vector_product(m, torch.ones(N), x, outputs="sum"),
    "per_example_gradient_norms": lambda m, x, y: measures.per_example_gradient_norms(m, _losses, x, y),
    "permute_hidden_units": lambda m, x, y: measures.permute_hidden_units(m, {}),
    "plan_ntk": lambda m, x, y: measures.plan_ntk(m, x),
    "preconditioned_sharpness": lambda m, x, y: measures.preconditioned_sharpness(
        m, _loss, x, y, {name: torch.ones_like(p) for name, p in m.named_parameters() if p.requires_grad}
    ),
    "signal_to_noise_by_layer": lambda m, x, y: measures.signal_to_noise_by_layer(m, _losses, x, y),
    "stream_ntk": _streamed,
    "transport_first_layer": lambda m, x, y: measures.transport_first_layer(m, torch.arange(16).flip(0)),
    "weight_change_spectrum": lambda m, x, y: measures.weight_change_spectrum(m, m),
    "weight_distance": lambda m, x, y: measures.weight_distance(m, m),
    "weight_norm": lambda m, x, y: measures.weight_norm(m),
}

# Measures that take no model draw from no generator and see no model; random ones among them are here too.
CALLS_WITHOUT_A_MODEL = {
    "gaussian_surrogates": lambda: measures.gaussian_surrogates(torch.randn(5, 1, 4, 4), 2, 0),
    "shuffled_pixels": lambda: measures.shuffled_pixels(torch.randn(5, 1, 4, 4), 0),
    "infinite_kernels": lambda: measures.infinite_kernels("S-2/Wi-8", torch.randn(3, 1, 4, 4)),
}


def takes_a_model(name):
    parameters = inspect.signature(getattr(measures, name)).parameters
    return not {"model", "model_a", "a"}.isdisjoint(parameters) and name != "prediction_agreement"


def public_functions():
    return sorted(name for name in measures.__all__ if inspect.isfunction(getattr(measures, name)))


def test_every_measure_of_a_model_is_called_here():
    assert sorted(CALLS) == [name for name in public_functions() if takes_a_model(name)]


def _hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    of_modules = [(kind, name, list(getattr(m, kind))) for kind in kinds for name, m in model.named_modules()]
    return of_modules, [(name, p._backward_hooks) for name, p in model.named_parameters()]


def _torch_state():
    backends = torch.backends
    return {
        "rng": torch.get_rng_state().tolist(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
        "precisions": [
            backend.fp32_precision
            for backend in (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
        ],
        "cudnn": (backends.cudnn.deterministic, backends.cudnn.benchmark),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
    }


def _model_state(model):
    return {
        "values": {name: (value.clone(), value.dtype) for name, value in model.state_dict().items()},
        "addresses": [value.data_ptr() for value in model.state_dict().values()],
        "versions": [value._version for value in (*model.parameters(), *model.buffers())],
        "gradients": [None if p.grad is None else (p.grad.data_ptr(), p.grad.clone()) for p in model.parameters()],
        "flags": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": _hooks(model),
        "names": sorted(vars(model)),
    }


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


@pytest.fixture(params=["plain", "autocast, reduced precision", "inference"])
def surroundings(request):
    """What a caller may have switched on."""
    if request.param == "plain":
        yield
    elif request.param == "inference":
        with torch.inference_mode():
            yield
    else:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            yield
        torch.set_float32_matmul_precision(before)


def _model(name=None):
    # Margins per unit of weight have no meaning behind a normalization.
    norm = "none" if name == "normalized_margins" else "layer"
    model = build("S-2/Wi-6", image_size=4, channels=1, num_classes=3, norm=norm)
    images = torch.randn(N, *IMAGES, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(N) % 3
    with torch.inference_mode(False), torch.enable_grad():
        # Gradients and hooks that are the caller's; the first is in training mode, a part in evaluation mode.
        _loss(model(images), labels).backward()
    model.blocks[0].eval()
    model.embedding.register_forward_hook(lambda module, arguments, output: None)
    return model, images, labels


@pytest.mark.parametrize("name", CALLS)
def test_the_model_and_torch_are_as_they_were(name, surroundings):
    with torch.inference_mode(False):
        model, images, labels = _model(name)
    before, torch_before = _model_state(model), _torch_state()
    inputs = images.clone()
    CALLS[name](model, images, labels)
    after, torch_after = _model_state(model), _torch_state()
    for what, value in before.items():
        assert _same(value, after[what]), what
    for what, value in torch_before.items():
        assert value == torch_after[what], what
    assert torch.equal(inputs, images) and images.grad is None and not images.requires_grad


@pytest.mark.parametrize("name", CALLS)
def test_the_same_comes_out_whatever_the_caller_switched_on(name, surroundings):
    with torch.inference_mode(False):
        model, images, labels = _model(name)
    found = CALLS[name](model, images, labels)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        expected = CALLS[name](model, images, labels)
        torch.set_float32_matmul_precision(before)
    if name != "plan_ntk":
        assert repr(found) == repr(expected)


@pytest.mark.parametrize("name", CALLS_WITHOUT_A_MODEL)
def test_torch_is_as_it_was(name, surroundings):
    before = _torch_state()
    first = torch.get_rng_state()
    CALLS_WITHOUT_A_MODEL[name]()
    torch.set_rng_state(first)
    after = _torch_state()
    assert before == after


@pytest.mark.parametrize("name", public_functions())
def test_every_measure_says_its_convention(name):
    assert len(getattr(measures, name).convention) > 20


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"linearize"}))
def test_what_is_returned_says_its_convention(name):
    found = CALLS[name](*_model(name))
    found = next(iter(found.values())) if isinstance(found, dict) else found
    if isinstance(found, torch.Tensor) or (hasattr(found, "__dataclass_fields__") and not isinstance(found, nn.Module)):
        assert len(found.convention) > 20


@pytest.mark.parametrize("name", CALLS)
def test_no_tensor_stays_behind(name, living_tensors):
    model, images, labels = _model(name)
    CALLS[name](model, images, labels)
    before = living_tensors()
    CALLS[name](model, images, labels)
    assert living_tensors() == before
