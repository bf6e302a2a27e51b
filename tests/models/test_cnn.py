import numpy as np
import pytest
import torch

from mlptheory.models import CNN, build, count_parameters


def convolve(x, weight, bias, stride):
    """Return a 3x3 cross-correlation with padding 1, by loops over taps."""
    _, _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = 0
    for u in range(3):
        for v in range(3):
            window = padded[:, :, u : u + height : stride, v : v + width : stride]
            out = out + np.einsum("ncij,oc->noij", window, weight[:, :, u, v])
    return out + bias[:, None, None]


@pytest.mark.parametrize(("image_size", "channels"), [((8, 8), 1), ((5, 7), 3), ((1, 1), 2)])
@pytest.mark.parametrize("name", ["CNN-3/Wi-4", "CNN-2/Wi-12", "CNN-1/Wi-3"])
def test_forward_equals_the_loops(name, image_size, channels):
    model = build(name, image_size=image_size, channels=channels, num_classes=4, activation="relu").double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    x = torch.randn(3, channels, *image_size, generator=generator, dtype=torch.float64)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    z = x.numpy()
    for index in range(model.parsed.depth):
        path = f"blocks.{index}."
        weight, bias = state[path + "convolution.weight"], state[path + "convolution.bias"]
        z = convolve(z, weight, bias, 1 if index == 0 else 2)
        assert z.shape[1] == model.parsed.width * 2**index
        groups = model.blocks[index].norm.num_groups
        grouped = z.reshape(len(z), groups, -1)
        grouped = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
        scale, shift = state[path + "norm.weight"][:, None, None], state[path + "norm.bias"][:, None, None]
        z = np.maximum(grouped.reshape(z.shape) * scale + shift, 0)
    expected = z.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("width", "groups"), [(32, 8), (12, 4), (3, 1)])
def test_groups_divide_the_channels(width, groups):
    model = build(f"CNN-1/Wi-{width}", image_size=4, num_classes=2)
    assert model.blocks[0].norm.num_groups == groups


def test_parameter_count():
    model = build("CNN-3/Wi-32", image_size=32, num_classes=10)
    convolutions = (27 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
    assert isinstance(model, CNN)
    assert count_parameters(model) == convolutions + 2 * (32 + 64 + 128) + 129 * 10


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("parametrization", ["standard", "ntk", "mup"])
def test_every_option_trains_on_digits_shaped_images(norm, parametrization):
    options = {"norm": norm, "parametrization": parametrization}
    model = build("CNN-3/Wi-8", image_size=8, channels=1, num_classes=10, **options)
    model(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    weights = [parameter for name, parameter in model.named_parameters() if name.endswith("weight")]
    assert all(weight.grad.abs().sum() > 0 for weight in weights)


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1), (2, 2)])
def test_bfloat16_gradients_are_those_of_float32_where_images_end_in_one_pixel(shape, parametrization):
    model = build("CNN-3/Wi-32", image_size=shape, channels=2, num_classes=4, parametrization=parametrization)
    x = torch.randn(6, 2, *shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        # Memory with numbers in it is given back, for a gradient that is partly unwritten to find.
        litter = [torch.full((2**18,), 1e30) for _ in range(8)]
        del litter
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(x)
        gradients.append(torch.autograd.grad(logits.float().square().sum(), list(model.parameters())))
    for exact, found in zip(*gradients, strict=True):
        assert (found - exact).norm() <= 0.1 * exact.norm()
