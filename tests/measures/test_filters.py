import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mlptheory.base import InputError
from mlptheory.data import pixel_permutation
from mlptheory.measures import filter_pictures, first_layer_filters
from mlptheory.models import build
from mlptheory.models.layers import ScaledDense

SHAPE = (2, 3, 4)


def _flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def _standardized():
    """A model whose channels are standardized inside, with statistics that are not those of the start."""
    norm = nn.BatchNorm2d(2)
    norm.running_mean.copy_(torch.tensor([0.3, -2.0]))
    norm.running_var.copy_(torch.tensor([0.5, 4.0]))
    norm.weight.data.copy_(torch.tensor([1.5, -0.7]))
    return nn.Sequential(norm, nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 2)).eval()


class _ChannelsLast(nn.Module):
    """Flattens in the order (H, W, C), as models of other libraries do; its last layer is registered first."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(5, 3)
        self.first = nn.Linear(24, 5)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.permute(0, 2, 3, 1).flatten(1))))


def _mlp(name, **options):
    return build(name, image_size=(3, 4), channels=2, num_classes=3, **options)


MODELS = {
    "S-MLP": (lambda: _mlp("S-2/Wi-5"), "embedding"),
    "B-MLP": (lambda: _mlp("B-1/Wi-4/E-2", dropout=0.5).eval(), "embedding"),
    "MLP": (lambda: _mlp("MLP-2/Wi-5"), "blocks.0.linear"),
    "NTK": (lambda: _mlp("B-1/Wi-4", parametrization="ntk"), "embedding"),
    "softmax regression": (lambda: _mlp("Linear"), "head"),
    "muP softmax": (lambda: _mlp("S-1/Wi-8", parametrization="mup", base_width=2), "embedding"),
    "float64": (lambda: _mlp("S-1/Wi-5").double(), "embedding"),
    "frozen": (lambda: _mlp("S-1/Wi-5").requires_grad_(False), "embedding"),
    "one unit": (lambda: _flat(nn.Linear(24, 1)), "1"),
    "as wide as the image": (lambda: _flat(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24)), "1"),
    "weight normalization": (lambda: _flat(weight_norm(nn.Linear(24, 3))), "1"),
    "standardized": (_standardized, "2"),
    "channels last": (_ChannelsLast, "first"),
}


@pytest.fixture(params=MODELS)
def seen(request):
    """A model, and the path of its first layer."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        make, path = MODELS[request.param]
        return make(), path


def _by_differences(model, path, shape=SHAPE):
    """Switch the pixels on one by one, and see by how much the first layer's outputs go up."""
    model = copy.deepcopy(model).double().eval()
    answers = []
    model.get_submodule(path).register_forward_hook(lambda module, inputs, output: answers.append(output[0]))
    dark = torch.zeros(1, *shape, dtype=torch.float64)
    with torch.no_grad():
        model(dark)
        for index in range(dark.numel()):
            lit = dark.clone()
            lit.view(-1)[index] = 1
            model(lit)
    return torch.stack([answer - answers[0] for answer in answers[1:]], dim=1).reshape(-1, *shape)


def test_filters_are_what_single_pixels_do(seen, twin):
    model, path = seen
    twin("first_layer_filters", first_layer_filters(model, SHAPE), _by_differences(model, path))


NO_FILTERS = {"CNN": "found Convolution", "used twice": "not linear in the pixels"}


def test_of_the_shared_cases(case, twin, request):
    model, _, inputs, _ = case
    name = request.node.callspec.params["case"]
    if inputs.dim() == 2:
        model, inputs = nn.Sequential(nn.Flatten(), model), inputs[:, None, None]
    shape = tuple(inputs.shape[1:])
    if name in NO_FILTERS:
        with pytest.raises(InputError, match=NO_FILTERS[name]):
            first_layer_filters(model, shape)
        return
    # In all of them layers are registered in the order in which they are called.
    path = next(path for path, module in model.named_modules() if isinstance(module, (nn.Linear, ScaledDense)))
    twin("first_layer_filters", first_layer_filters(model, shape), _by_differences(model, path, shape))


@pytest.mark.parametrize("parametrization", ["standard", "mup"])
def test_without_a_forward_scale_they_are_the_weights_bit_for_bit(parametrization):
    model = _mlp("B-1/Wi-6", parametrization=parametrization)
    filters = first_layer_filters(model)
    assert filters.dtype == torch.float64
    assert filters.shape == (6, *SHAPE)
    assert torch.equal(filters, model.embedding.weight.detach().double().reshape(6, *SHAPE))


def test_a_forward_scale_counts():
    model = _mlp("S-1/Wi-6", parametrization="ntk")
    expected = model.embedding.weight.detach().double() / 24**0.5
    torch.testing.assert_close(first_layer_filters(model).flatten(1), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("as_state", [False, True])
def test_difference_to_the_start(as_state, twin):
    start = _mlp("S-1/Wi-6")
    model = copy.deepcopy(start)
    with torch.no_grad():
        model.embedding.weight[2, 7] += 0.5
        model.head.weight += 1
    initial = start.state_dict() if as_state else start
    moved = first_layer_filters(model, initial=initial)
    expected = torch.zeros(6, 24)
    expected[2, 7] = 0.5
    torch.testing.assert_close(moved.flatten(1), expected.double(), rtol=0, atol=1e-7)
    assert (moved != 0).sum() == 1
    twin("first_layer_filters", moved, _by_differences(model, "embedding") - _by_differences(start, "embedding"))


def test_a_permutation_is_undone():
    model = _mlp("S-1/Wi-6")
    order = pixel_permutation(3, SHAPE)
    image = torch.randn(1, *SHAPE, dtype=torch.float64)
    shuffled = image.flatten(1)[:, order].reshape(image.shape)
    filters = first_layer_filters(model, permutation=order)
    answers = model.double().embedding(shuffled.flatten(1)) - model.embedding.bias
    torch.testing.assert_close(filters.flatten(1) @ image.flatten(), answers[0].detach(), rtol=1e-12, atol=1e-12)


def test_the_model_comes_back_as_it_was(case, state_of, same_state):
    model, _, inputs, _ = case
    before, hooks = state_of(model), [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        try:
            filters = first_layer_filters(model, inputs.shape[1:] if inputs.dim() == 4 else (1, 1, inputs.shape[1]))
            assert filters.dtype == torch.float64
            assert not filters.requires_grad
        except InputError:
            pass
    same_state(before, state_of(model))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


class _Normalized(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LayerNorm(24, elementwise_affine=False), nn.Linear(24, 3))


class _Kernel(nn.Module):
    """A first layer that is no module of torch's, and not linear."""

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(4, 24))

    def forward(self, x):
        return torch.cdist(x, self.centers)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Linear(12, 2), None, "image_shape: required"),
        (_flat(nn.Linear(12, 2)), (3, 4), "three positive integers"),
        (_flat(nn.Linear(12, 2)), (3, 2, 0), "three positive integers"),
        (_flat(nn.Linear(12, 2)), (3, 2, 3), r"image_shape = \(3, 2, 3\): the model does not take it: mat1"),
        (nn.Linear(4, 2), SHAPE, r"dense over all 24 pixels.*shape \(1, 2, 3, 4\).*Flatten"),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(36, 2)), SHAPE, "found Conv2d"),
        (_Normalized(), SHAPE, "not linear in the pixels"),
        (_flat(nn.ReLU(), nn.Linear(24, 3)), SHAPE, "not linear in the pixels"),
        (_flat(_Kernel()), SHAPE, "not linear in the pixels"),
        (_flat(nn.BatchNorm1d(24), nn.Linear(24, 3)), SHAPE, "in evaluation mode"),
        (_flat(nn.ReLU()), SHAPE, "expected a dense first layer.*found none"),
        (nn.Sequential(nn.Unflatten(1, (3, 7)), nn.Flatten(), nn.Linear(24, 3)), SHAPE, "does not take it"),
        (_mlp("S-1/Wi-4"), (1, 3, 4), r"\(2, 3, 4\), the model's input_shape"),
        (_mlp("CNN-1/Wi-2"), None, "found Convolution"),
    ],
)
def test_refusals(model, shape, message):
    with pytest.raises(InputError, match=message):
        first_layer_filters(model, shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": {"embedding.weight": torch.zeros(4, 24)}}, "not a state dict of the model: .*Missing key"),
        ({"initial": _mlp("S-2/Wi-4").state_dict()}, "not a state dict of the model: .*Unexpected key"),
        ({"initial": build("S-1/Wi-4", image_size=4, channels=2, num_classes=3)}, r"the model's input_shape"),
        ({"initial": _mlp("S-1/Wi-5")}, r"initial: expected filters of shape \(4, 2, 3, 4\).*found \(5, 2, 3, 4\)"),
        ({"permutation": torch.arange(23)}, "each of 0 to 23 once"),
        ({"permutation": torch.zeros(24, dtype=torch.int64)}, "each of 0 to 23 once"),
    ],
)
def test_refusals_of_what_goes_with_a_model(arguments, message):
    with pytest.raises(InputError, match=message):
        first_layer_filters(_mlp("S-1/Wi-4"), **arguments)


@pytest.mark.parametrize(
    ("shape", "units"), [((1, 1, 1, 1), 1), ((3, 2, 2, 3), 25), ((30, 3, 4, 4), 25), ((5, 3, 2, 2), 2)]
)
def test_pictures_are_the_brightest_channel(shape, units, twin):
    filters = torch.randn(shape, dtype=torch.float64).transpose(2, 3)
    expected = [
        [[max(channel[row][column] for channel in unit) for column in range(shape[2])] for row in range(shape[3])]
        for unit in filters.tolist()[:units]
    ]
    twin("filter_pictures", filter_pictures(filters, units), expected, rtol=0)


def test_pictures_by_default_are_25_signed_and_say_so():
    pictures = filter_pictures(-torch.ones(40, 3, 2, 2))
    assert pictures.shape == (25, 2, 2)
    assert (pictures == -1).all()
    assert "signed maximum" in pictures.convention


@pytest.mark.parametrize(("channels", "law", "mean"), [(3, "randn", 0.846), (3, "rand", 0.866), (1, "randn", 0.0)])
def test_how_far_above_zero_pictures_of_noise_are(channels, law, mean):
    generator = torch.Generator().manual_seed(0)
    noise = getattr(torch, law)(50, channels, 40, 40, generator=generator, dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    assert filter_pictures(noise, 50).mean().item() == pytest.approx(mean, abs=0.01)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (torch.zeros(4, 9), r"expected shape \(units, C, H, W\)"),
        (torch.zeros(0, 1, 2, 2), "at least one example"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.float16), "float32 or float64"),
        (torch.tensor([0.0, torch.nan]).reshape(2, 1, 1, 1), "example 1 is not finite"),
    ],
)
def test_pictures_of_no_filters(filters, message):
    with pytest.raises(InputError, match=message):
        filter_pictures(filters)


def test_pictures_of_no_units():
    with pytest.raises(InputError, match="units = 0"):
        filter_pictures(torch.zeros(1, 1, 2, 2), 0)


@pytest.mark.cuda
def test_on_a_gpu():
    model = _mlp("B-1/Wi-6").cuda()
    assert torch.equal(first_layer_filters(model).cpu(), first_layer_filters(model.cpu()))
