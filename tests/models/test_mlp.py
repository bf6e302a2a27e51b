"""The networks against NumPy twins written from the paper's formulas."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import erf

from mlptheory.base import InputError
from mlptheory.models import BMLP, CNN, MLP, SMLP, ModelConfig, build, count_parameters, set_dropout_key


def scrambled(model, seed=0):
    """Return the model in float64 with every parameter, also of the normalizations, away from its special value."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return model


def images(count, shape, seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gelu(z):
    return z * (1 + erf(z / np.sqrt(2))) / 2


def relu(z):
    return np.where(z > 0, z, 0)


class Twin:
    """The paper's formulas over a state dict, one example at a time, in the standard parametrization."""

    def __init__(self, model):
        self.state = {name: value.numpy() for name, value in model.state_dict().items()}
        self.config = model.config
        self.sigma = {"gelu": gelu, "relu": relu}[self.config.activation]

    def layer(self, path, z):
        return np.array([sum(row * z) for row in self.state[path + ".weight"]]) + self.state[path + ".bias"]

    def norm(self, path, z):
        if self.config.norm == "none":
            return z
        if self.config.norm == "batch":
            mean, variance = self.state[path + ".running_mean"], self.state[path + ".running_var"]
        else:
            mean = sum(z) / len(z)
            variance = sum((z - mean) ** 2) / len(z)
        scaled = (z - mean) / np.sqrt(variance + 1e-5)
        return scaled * self.state[path + ".weight"] + self.state[path + ".bias"]

    def __call__(self, image, blocks):
        z = self.layer("embedding", image.reshape(-1))
        for index in range(blocks):
            z = self.block(f"blocks.{index}", z) + (z if self.config.skip else 0)
        return self.layer("head", z) * self.config.output_scale


class StandardTwin(Twin):
    def block(self, path, z):
        if self.config.variant == "authors":
            return self.layer(path + ".linear", self.sigma(self.norm(path + ".norm", z)))
        return self.sigma(self.layer(path + ".linear", self.norm(path + ".norm", z)))


class BottleneckTwin(Twin):
    def block(self, path, z):
        expanded = self.sigma(self.layer(path + ".expand", self.norm(path + ".norm", z)))
        return self.layer(path + ".contract", expanded)


NAMES = [
    ("S-3/Wi-5", {}),
    ("S-1/Wi-1", {}),
    ("S-3/Wi-5", {"variant": "authors"}),
    ("S-1/Wi-4", {"variant": "authors"}),
    ("B-2/Wi-6", {}),
    ("B-2/Wi-3/E-2", {"variant": "authors"}),
    ("B-1/Wi-1/E-1", {}),
]
CASES = list(itertools.product(NAMES, ["layer", "batch", "none"], ["gelu", "relu", None], [True, False, None]))


@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 1, 1)])
def test_forward_equals_the_formulas(shape):
    for (name, options), norm, activation, skip in CASES:
        classes = 1 if name == "S-1/Wi-1" else 4
        options = {**options, "norm": norm, "activation": activation, "skip": skip, "output_scale": 2.5}
        model = build(name, image_size=shape[1:], channels=shape[0], num_classes=classes, **options)
        model = scrambled(model)
        x = images(3, shape)
        if norm == "batch":
            with torch.no_grad():
                model(x)
            model.eval()
        twin = (StandardTwin if name[0] == "S" else BottleneckTwin)(model)
        blocks = model.parsed.depth - (name[0] == "S" and options.get("variant") == "authors")
        expected = np.stack([twin(image.numpy(), blocks) for image in x])
        np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12, err_msg=repr(options))


@pytest.mark.parametrize("parametrization", ["standard", "ntk", "mup"])
@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu", None])
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 6), (3, 5)])
def test_the_plain_mlp_has_an_activation_after_every_layer_but_the_head(
    depth, width, activation, norm, parametrization
):
    options = {"norm": norm, "activation": activation, "parametrization": parametrization, "base_width": 2}
    model = build(f"MLP-{depth}/Wi-{width}", image_size=(4, 2), num_classes=4, output_scale=2.5, **options)
    model, x = scrambled(model), images(5, (3, 4, 2))
    if norm == "batch":
        with torch.no_grad():
            model(x)
        model.eval()
    p = {name: value.numpy() for name, value in model.state_dict().items()}
    # Forward scales by hand: NTK divides by the root of the fan-in, muP the head by the ratio of widths.
    ntk, mup = parametrization == "ntk", parametrization == "mup"

    def layer(path, z, scale=1.0):
        scale = 1 / np.sqrt(z.shape[1]) if ntk else scale
        return np.einsum("ni,oi->no", z, p[f"{path}.weight"]) * scale + p[f"{path}.bias"] * (0.1 if ntk else 1)

    def normed(path, z):
        if norm == "none":
            return z
        if norm == "batch":
            z = (z - p[f"{path}.running_mean"]) / np.sqrt(p[f"{path}.running_var"] + 1e-5)
        else:
            z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
        return z * p[f"{path}.weight"] + p[f"{path}.bias"]

    sigma = {"tanh": np.tanh, "gelu": gelu, "relu": relu, None: relu}[activation]
    z = sigma(layer("blocks.0.linear", x.numpy().reshape(5, -1)))
    for index in range(1, depth):
        z = sigma(layer(f"blocks.{index}.linear", normed(f"blocks.{index}.norm", z)))
    expected = 2.5 * layer("head", z, scale=2 / width if mup else 1.0)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_the_plain_mlp_is_the_sequential_of_the_textbooks():
    model = build("MLP-2/Wi-200", image_size=32, num_classes=10, norm="none", activation="tanh")
    layers = [torch.nn.Linear(3072, 200), torch.nn.Linear(200, 200), torch.nn.Linear(200, 10)]
    tanh = torch.nn.Tanh()
    twin = torch.nn.Sequential(torch.nn.Flatten(), layers[0], tanh, layers[1], tanh, layers[2])
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        other.data.copy_(own.data)
    x = images(3, (3, 32, 32)).float()
    assert torch.equal(model(x), twin(x))
    assert count_parameters(model) == 3073 * 200 + 201 * 200 + 201 * 10
    assert model.first_layer == "blocks.0.linear"


def test_dropout_follows_every_activation_of_the_plain_mlp():
    model = build("MLP-3/Wi-64", image_size=2, num_classes=3, dropout=0.5, activation="tanh")
    set_dropout_key(model, seed=0, step=0, rows=slice(0, 20), batch_size=20)
    found = model.intermediates(images(20, (3, 2, 2)).float())
    shares = [(found[f"block{index}"] == 0).double().mean().item() for index in range(3)]
    assert all(0.4 < share < 0.6 for share in shares), shares
    kept = model.eval().intermediates(images(20, (3, 2, 2)).float())
    assert not any((kept[f"block{index}"] == 0).any() for index in range(3))


@pytest.mark.parametrize("name", ["S-2/Wi-6", "B-2/Wi-6"])
def test_tanh_in_the_papers_networks(name):
    model = scrambled(build(name, image_size=2, num_classes=3, activation="tanh", norm="none", skip=False))
    x = images(4, (3, 2, 2))
    z = model.embedding(x.flatten(1))
    for block in model.blocks:
        z = torch.tanh(block.linear(z)) if name[0] == "S" else block.contract(torch.tanh(block.expand(z)))
    torch.testing.assert_close(model(x), model.head(z), rtol=1e-12, atol=1e-12)


def test_batch_norm_uses_the_batch_in_training_and_running_statistics_in_evaluation():
    model = scrambled(build("S-1/Wi-6", image_size=2, num_classes=3, norm="batch"))
    x = images(7, (3, 2, 2))
    z = model.embedding(x.flatten(1))
    normalized = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
    block = model.blocks[0]
    expected = model.head(torch.relu(block.linear(normalized * block.norm.weight + block.norm.bias)))
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert int(block.norm.num_batches_tracked) == 1
    model.eval()
    assert not torch.allclose(model(x), expected)
    torch.testing.assert_close(model(x)[:2], model(x[:2]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("S-2/Wi-8", {}, ["embedding", "block0", "block1", "logits"]),
        ("S-2/Wi-8", {"variant": "authors"}, ["embedding", "block0", "logits"]),
        ("B-3/Wi-8", {"output_scale": 3.0}, ["embedding", "block0", "block1", "block2", "logits"]),
        ("MLP-3/Wi-8", {"output_scale": 3.0}, ["block0", "block1", "block2", "logits"]),
        ("MLP-1/Wi-8", {"norm": "none", "activation": "tanh"}, ["block0", "logits"]),
        ("CNN-2/Wi-8", {"parametrization": "mup"}, ["block0", "block1", "pooled", "logits"]),
    ],
)
def test_intermediates_are_the_forward_pass_bit_for_bit(name, options, names):
    model = build(name, image_size=6, num_classes=5, **options)
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = model.intermediates(x)
    assert list(found) == names
    assert torch.equal(found["logits"], model(x))
    before_head = found[names[-2]]
    assert torch.equal(model.head(before_head) * model.config.output_scale, found["logits"])
    if "embedding" in found:
        assert torch.equal(model.blocks[0](found["embedding"]), found["block0"])


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("B-6/Wi-256", 9.19),
        ("B-12/Wi-256", 12.35),
        ("B-6/Wi-512", 24.66),
        ("B-12/Wi-512", 37.26),
        ("B-6/Wi-1024", 74.47),
        ("B-12/Wi-1024", 124.84),
    ],
)
def test_parameter_counts_of_table_3(name, millions):
    with torch.device("meta"):
        model = build(name, image_size=64, num_classes=11_230)
    depth, width = model.parsed.depth, model.parsed.width
    block = 2 * width + (width * 4 * width + 4 * width) + (4 * width * width + width)
    assert count_parameters(model) == (3 * 64**2 + 1) * width + depth * block + (width + 1) * 11_230
    assert round(count_parameters(model) / 1e6, 2) == millions


def test_parameter_count_of_the_s_mlp():
    with torch.device("meta"):
        model = build("S-6/Wi-1024", image_size=32, num_classes=10)
    assert count_parameters(model) == 3073 * 1024 + 6 * (1024 * 1025 + 2 * 1024) + 10 * 1025


def test_batch_norm_and_no_norm_change_the_count_by_the_scales_and_shifts():
    counts = {
        norm: count_parameters(build("B-3/Wi-16", image_size=4, num_classes=2, norm=norm))
        for norm in ("layer", "batch", "none")
    }
    assert counts["layer"] == counts["batch"] == counts["none"] + 3 * 2 * 16


@pytest.mark.parametrize("name", ["S-2/Wi-8", "B-2/Wi-8", "MLP-2/Wi-8", "CNN-2/Wi-8"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 8, 9), r"input of shape \(2, 3, 8, 9\): .* was built for \(N, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), r"input of shape \(2, 1, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"input of shape \(3, 8, 8\)"),
        (torch.zeros(2, 192), r"input of shape \(2, 192\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "input of dtype torch.uint8: .* floating-point"),
    ],
)
def test_other_inputs_are_refused(name, x, message):
    with pytest.raises(InputError, match=message):
        build(name, image_size=8, num_classes=2)(x)


def test_a_permutation_of_the_pixels_is_a_permutation_of_the_embedding():
    model = scrambled(build("B-2/Wi-8", image_size=3, num_classes=4))
    x = images(5, (3, 3, 3))
    order = torch.randperm(27, generator=torch.Generator().manual_seed(3))
    before = model(x)
    with torch.no_grad():
        model.embedding.weight.copy_(model.embedding.weight[:, order])
    torch.testing.assert_close(model(x.flatten(1)[:, order].reshape_as(x)), before, rtol=1e-12, atol=1e-12)


def test_an_empty_batch_gives_no_logits():
    assert build("S-1/Wi-4", image_size=2, num_classes=3)(torch.zeros(0, 3, 2, 2)).shape == (0, 3)


def test_the_classes_can_be_built_directly_with_a_seed():
    before = torch.random.get_rng_state()
    direct = SMLP(ModelConfig(name="S-2/Wi-4"), (1, 2, 2), 3, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    by_name = build("S-2/Wi-4", image_size=2, channels=1, num_classes=3, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(direct.parameters(), by_name.parameters(), strict=True))
    assert isinstance(build("B-1/Wi-4", image_size=2, num_classes=3), BMLP)


@pytest.mark.parametrize(
    ("kind", "name"), [(SMLP, "B-2/Wi-4"), (BMLP, "S-2/Wi-4"), (MLP, "S-2/Wi-4"), (CNN, "S-2/Wi-4")]
)
def test_the_classes_take_names_of_their_own_family(kind, name):
    with pytest.raises(InputError, match=f"model = '{name}': expected a name of the family .* for {kind.__name__}"):
        kind(ModelConfig(name=name), (1, 2, 2), 3)
