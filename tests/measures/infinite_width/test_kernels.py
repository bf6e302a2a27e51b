"""Infinite-width kernels: against forward and backward sums by quadrature, against finite nets, at the door."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.func import functional_call, jacrev

from mlptheory.base import InputError
from mlptheory.base.random import torch_generator
from mlptheory.measures import infinite_kernels
from mlptheory.models import ModelConfig, build

EPS = torch.nn.LayerNorm(1).eps
ARCHITECTURES = {
    "S": ("S-2/Wi-8", {}),
    "S, GELU": ("S-2/Wi-8", {"activation": "gelu"}),
    "S, skip": ("S-2/Wi-8", {"skip": True}),
    "S, no norm": ("S-3/Wi-8", {"norm": "none"}),
    "S, no norm, skip": ("S-2/Wi-8", {"norm": "none", "skip": True, "activation": "gelu"}),
    "authors": ("S-3/Wi-8", {"variant": "authors"}),
    "authors, ReLU, skip": ("S-3/Wi-8", {"variant": "authors", "activation": "relu", "skip": True}),
    "authors, no norm": ("S-2/Wi-8", {"variant": "authors", "norm": "none"}),
    "authors, no block": ("S-1/Wi-8", {"variant": "authors"}),
    "B": ("B-2/Wi-8", {}),
    "B, ReLU, k = 2": ("B-2/Wi-8/E-2", {"activation": "relu"}),
    "B, no skip": ("B-2/Wi-8/E-1", {"skip": False}),
    "B, no norm": ("B-1/Wi-8", {"norm": "none"}),
    "MLP": ("MLP-3/Wi-8", {}),
    "MLP, GELU": ("MLP-2/Wi-8", {"activation": "gelu"}),
    "MLP, no norm": ("MLP-3/Wi-8", {"norm": "none"}),
    "MLP, no norm, GELU": ("MLP-2/Wi-8", {"norm": "none", "activation": "gelu"}),
    "MLP, two layers, no norm": ("MLP-2/Wi-8", {"norm": "none"}),
    "MLP, one layer": ("MLP-1/Wi-8", {}),
}


def _inputs(n=3, d=4):
    x = torch.randn(n, 1, 2, d // 2, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
    return x * torch.tensor([1.0, 0.05, 3.0], dtype=torch.float64)[:n, None, None, None]


class _Twin:
    """One pair of inputs: a forward pass over second moments, then a backward one that collects what layers add.

    A kernel is [k11, k12, k22]. Each layer that trains is noted with the kernel of derivatives that reaches it.
    """

    def __init__(self, config, weight_std, bias_std, affine, quadrature, functions):
        self.config = config.resolved()
        self.ntk = config.parametrization == "ntk"
        self.weight, self.bias, self.affine = weight_std**2, bias_std**2, affine and self.ntk
        # Between its kinks a ReLU needs no finer panels.
        halvings = 1 if self.config.activation == "relu" else 3
        self.mean = lambda g, *k: quadrature(g, *k, halvings=halvings)
        self.value, self.derivative = functions[self.config.activation]

    def kernels(self, a, b):
        d = a.numel()
        k = [float(u.flatten() @ v.flatten()) / d for u, v in ((a, a), (a, b), (b, b))]
        added = self.adds(k, 1) if self.ntk else 0.0
        bias = self.bias if self.ntk else self.bias / d
        z, mu = [self.weight * entry + bias for entry in k], [0.0, 0.0]
        # From the embedding to the head: (own contribution, factor of what comes from below) along the main path.
        steps = []
        config = self.config
        blocks = config.parsed.depth - (config.variant == "authors" and config.parsed.family == "S")
        if config.parsed.family == "MLP":
            z, mu, slope = self.activated(z)
            added, blocks = added * slope, blocks - 1
        for _ in range(blocks):
            branch, mu_branch, own, factor = self.block(z, mu)
            if config.skip:
                z = [
                    entry + other + shift
                    for entry, other, shift in zip(z, branch, self.cross(mu, mu_branch), strict=True)
                ]
                mu = [one + two for one, two in zip(mu, mu_branch, strict=True)]
                factor += 1.0
            else:
                z, mu = branch, mu_branch
            steps.append((own, factor))
        reaching = self.weight
        tangent = self.adds(z, 1)
        for own, factor in reversed(steps):
            tangent += reaching * own
            reaching *= factor
        return self.weight * z[1] + (self.bias if self.ntk else 0.0), tangent + reaching * added

    @staticmethod
    def cross(mu, other):
        return [mu[i] * other[j] + other[i] * mu[j] for i, j in ((0, 0), (0, 1), (1, 1))]

    def block(self, z, mu):
        """Second moments and means of the branch; what its layers add to the tangent kernel; the factor of z's."""
        normed, factor = z, 1.0
        if self.config.norm == "layer":
            v = [z[0] - mu[0] ** 2, z[1] - mu[0] * mu[1], z[2] - mu[1] ** 2]
            factor = 1 / math.sqrt((v[0] + EPS) * (v[2] + EPS))
            normed = [v[0] / (v[0] + EPS), v[1] * factor, v[2] / (v[2] + EPS)]
        affine = self.affine and self.config.norm == "layer"
        if self.config.variant == "authors" and self.config.parsed.family == "S":
            out, _, slope = self.activated(normed)
            own = self.adds(out, 1)
            if affine:
                product = self.mean(lambda u, v: u * v * self.derivative(u) * self.derivative(v), *normed)
                own += self.weight * (product + slope)
            return self.dense(out), [0.0, 0.0], own, factor * slope * self.weight
        own = self.adds(normed, 1) + (self.weight * (normed[1] + 1) if affine else 0.0)
        out, means, slope = self.activated(self.dense(normed))
        own, factor = own * slope, factor * self.weight * slope
        if self.config.parsed.family in ("S", "MLP"):
            return out, means, own, factor
        own = own * self.weight + self.adds(out, self.config.parsed.expansion)
        return self.dense(out), [0.0, 0.0], own, factor * self.weight

    def dense(self, k):
        return [self.weight * entry + (self.bias if self.ntk else 0.0) for entry in k]

    def adds(self, k, fan_in):
        """What a dense layer's own weights and biases add; in the standard parametrization, per width."""
        return self.weight * k[1] + self.bias if self.ntk else fan_in * k[1]

    def activated(self, k):
        k11, k12, k22 = k
        out = [
            self.mean(lambda u, v: self.value(u) * self.value(v), *entries)
            for entries in ((k11, k11, k11), (k11, k12, k22), (k22, k22, k22))
        ]
        means = [self.mean(lambda u, v: self.value(u), one, one, one) for one in (k11, k22)]
        return out, means, self.mean(lambda u, v: self.derivative(u) * self.derivative(v), *k)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("affine", [True, False])
def test_kernels_against_sums_by_quadrature(architecture, parametrization, affine, quadrature, functions, twin):
    name, options = ARCHITECTURES[architecture]
    default = {"ntk": (1.0, 0.1), "standard": (3**-0.5, 3**-0.5)}[parametrization]
    stds = default if affine else (1.3, 0.4)
    given = {} if affine else {"weight_std": 1.3, "bias_std": 0.4}
    x1, x2 = _inputs(), _inputs(2)[:, :, :, [1, 0]]
    found = infinite_kernels(name, x1, x2, parametrization=parametrization, layernorm_affine=affine, **options, **given)
    config = ModelConfig(name=name, parametrization=parametrization, **options)
    reference = _Twin(config, *stds, affine, quadrature, functions)
    pairs = [(0, 0), (2, 1)]
    expected = torch.tensor([reference.kernels(x1[i], x2[j]) for i, j in pairs], dtype=torch.float64)
    tangent = found.ntk if parametrization == "ntk" else found.ntk_per_width
    assert (found.ntk is None) == (parametrization == "standard")
    assert (found.ntk_per_width is None) == (parametrization == "ntk")
    twin("infinite_kernels", [found.nngp[i, j] for i, j in pairs], expected[:, 0], rtol=1e-11)
    twin("infinite_kernels", [tangent[i, j] for i, j in pairs], expected[:, 1], rtol=1e-11)


def _kernels_of_nets(name, x, draws, **options):
    """Tangent and NNGP kernels of nets drawn one after another, by torch's Jacobian: (draws, N, N) each."""
    model = build(name, image_size=x.shape[2:], channels=1, num_classes=1, **options).double()
    width, ntk = model.parsed.width, options["parametrization"] == "ntk"
    tangents, nngps = [], []
    for draw in range(draws):
        model.initialize(torch_generator(1, "nets", width, draw))
        parameters = {key: value.detach() for key, value in model.named_parameters()}
        jacobian = jacrev(lambda some: functional_call(model, some, (x,))[:, 0])(parameters)
        rows = torch.cat([part.flatten(1) for part in jacobian.values()], dim=1)
        tangents.append(rows @ rows.T if ntk else rows @ rows.T / width)
        with torch.no_grad():
            states = list(model.intermediates(x).values())[-2]
        nngps.append(states @ states.T / width * (1 if ntk else 1 / 3) + (0.01 if ntk else 1 / (3 * width)))
    return torch.stack(tangents), torch.stack(nngps)


def _arc_cosine(depth, a, b, parametrization, weight_std, bias_std):
    """Cho & Saul's kernels of degree 1 and 0, layer after layer, for one pair of inputs of a ReLU net without norms."""
    is_ntk, d = parametrization == "ntk", len(a)
    w, bias = weight_std**2, bias_std**2
    aa, ab, bb = (w * float(u @ v) / d + bias / (1 if is_ntk else d) for u, v in ((a, a), (a, b), (b, b)))
    tangent = ab if is_ntk else 0.0
    later = bias if is_ntk else 0.0
    for _ in range(depth):
        angle = math.acos(max(-1.0, min(1.0, ab / math.sqrt(aa * bb))))
        product = math.sqrt(aa * bb) * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
        slope = (math.pi - angle) / (2 * math.pi)
        aa, ab, bb = w * aa / 2 + later, w * product + later, w * bb / 2 + later
        # In the standard parametrization a matrix's gradient has the second moment itself, whatever its variance.
        tangent = w * slope * tangent + (ab if is_ntk else product)
    return ab, tangent


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("stds", [(1.0, 0.1), (math.sqrt(2), 0.0), (3**-0.5, 3**-0.5)])
def test_a_plain_relu_net_has_the_arc_cosine_kernels(depth, parametrization, stds, twin):
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = infinite_kernels(
        f"MLP-{depth}/Wi-8", x, norm="none", parametrization=parametrization, weight_std=stds[0], bias_std=stds[1]
    )
    tangent = found.ntk if parametrization == "ntk" else found.ntk_per_width
    pairs = list(itertools.combinations(range(4), 2))
    by_hand = [_arc_cosine(depth, x[i], x[j], parametrization, *stds) for i, j in pairs]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    rows, columns = zip(*pairs, strict=True)
    twin("infinite_kernels", found.nngp[rows, columns], expected[:, 0], rtol=1e-12)
    twin("infinite_kernels", tangent[rows, columns], expected[:, 1], rtol=1e-12)


def test_he_scaling_keeps_the_length_and_adds_one_tangent_kernel_a_layer():
    # ReLU nets of weight variance 2: K(x, x) = 2 |x|²/d at every depth, and every layer adds as much to Θ.
    x = torch.ones(1, 5, dtype=torch.float64)
    for depth in (1, 2, 7):
        found = infinite_kernels(f"MLP-{depth}/Wi-8", x, norm="none", weight_std=math.sqrt(2), bias_std=0.0)
        assert found.nngp.item() == pytest.approx(2.0, rel=1e-14)
        assert found.ntk.item() == pytest.approx(2.0 * (depth + 1), rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["MLP, GELU", "MLP, two layers, no norm", "MLP, no norm, GELU"])
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_kernels_of_plain_nets_against_finite_ones(architecture, parametrization):
    # So many inputs that the first layer's uniform weights make Gaussian units.
    _against_finite_nets(architecture, parametrization, side=12, draws=500)


@pytest.mark.parametrize("architecture", ["S", "S, skip", "authors", "B, ReLU, k = 2"])
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_kernels_against_finite_nets(architecture, parametrization):
    _against_finite_nets(architecture, parametrization, side=4, draws=150)


def _against_finite_nets(architecture, parametrization, side, draws):
    name, options = ARCHITECTURES[architecture]
    family, expansion = name.split("/Wi-8")
    x = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.4
    options = {**options, "parametrization": parametrization}
    limit = infinite_kernels(name, x, **options)
    small, large = (_kernels_of_nets(f"{family}/Wi-{width}{expansion}", x, draws, **options) for width in (48, 96))
    tangent = limit.ntk if parametrization == "ntk" else limit.ntk_per_width
    for true, one, two in zip((tangent, limit.nngp), small, large, strict=True):
        # What is left after the terms in 1/width.
        found = 2 * two.mean(dim=0) - one.mean(dim=0)
        error = (4 * two.var(dim=0) / len(two) + one.var(dim=0) / len(one)).sqrt()
        scale = (true.diagonal()[:, None] * true.diagonal()).sqrt()
        assert (error / scale).max() < 0.08
        assert ((found - true).abs() < 4 * error).all(), (found - true) / error


def test_an_activation_moves_the_mean_and_the_tangent_kernel_keeps_it():
    # One block, no affine, no biases: u has K = x x'/d, then LN(relu(u)) would feed a next block.
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    one = infinite_kernels("S-1/Wi-8", x, norm="none", bias_std=0.0)
    torch.testing.assert_close(
        one.nngp, torch.tensor([[1 / 2, 1 / (2 * math.pi)], [1 / (2 * math.pi), 1 / 2]]).double()
    )
    torch.testing.assert_close(one.ntk.diagonal(), torch.full((2,), 1.5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["S-12/Wi-8", "B-12/Wi-8"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_kernels_are_kernels(name, activation):
    x = torch.randn(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for parametrization in ("ntk", "standard"):
        found = infinite_kernels(name, x, parametrization=parametrization, activation=activation)
        for kernel in (found.nngp, found.ntk if parametrization == "ntk" else found.ntk_per_width):
            assert torch.equal(kernel, kernel.T)
            assert torch.linalg.eigvalsh(kernel).min() > 0


def test_an_input_against_itself_is_exact_wherever_it_stands():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=draw, dtype=torch.float64)
    full = infinite_kernels("S-9/Wi-8", x, activation="relu")
    again = infinite_kernels("S-9/Wi-8", x[[3, 5, 3]], x, activation="relu")
    torch.testing.assert_close(again.ntk, full.ntk[[3, 5, 3]], rtol=1e-12, atol=0)
    torch.testing.assert_close(again.nngp, full.nngp[[3, 5, 3]], rtol=1e-12, atol=0)
    # LayerNorm forgets an input's length, but for its eps.
    scaled = infinite_kernels("S-9/Wi-8", x, -x, bias_std=0.0).ntk
    assert torch.isfinite(scaled).all()


def test_in_parts_or_at_once(monkeypatch):
    from mlptheory.measures.infinite_width import kernels

    x = _inputs()
    whole = infinite_kernels("B-2/Wi-8", x)
    monkeypatch.setattr(kernels, "_PAIRS_AT_ONCE", 1)
    parts = infinite_kernels("B-2/Wi-8", x)
    torch.testing.assert_close(parts.ntk, whole.ntk, rtol=1e-14, atol=0)
    torch.testing.assert_close(parts.nngp, whole.nngp, rtol=1e-14, atol=0)


def test_what_does_not_matter(state_of):
    x = _inputs()
    found = infinite_kernels("B-2/Wi-8", x)
    for same in (
        infinite_kernels("B-2/Wi-4096", x),
        infinite_kernels("B-2/Wi-8/E-1", x),
        infinite_kernels("B-2/Wi-8", x.flatten(1)),
        infinite_kernels("B-2/Wi-8", x, activation="gelu", skip=True, weight_std=1.0, bias_std=0.1),
        infinite_kernels("B-2/Wi-8", x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2).requires_grad_()),
    ):
        torch.testing.assert_close(same.ntk, found.ntk, rtol=1e-14, atol=0)
        assert not same.ntk.requires_grad
    assert found.convention == infinite_kernels.convention
    # Width, k and the embedding's biases apart, the standard parametrization does know k.
    one, four = (infinite_kernels(f"B-2/Wi-8/E-{k}", x, parametrization="standard").ntk_per_width for k in (1, 4))
    assert (four > one).all()
    assert infinite_kernels("S-2/Wi-8", x.float()).nngp.dtype == torch.float64


def test_a_zero_input_and_no_bias():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    for norm, name in itertools.product(("none", "layer"), ("S-2/Wi-8", "B-2/Wi-8")):
        found = infinite_kernels(name, x, norm=norm, bias_std=0.0, layernorm_affine=False)
        assert found.nngp[0].abs().max() == found.ntk[0].abs().max() == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_name": "CNN-2/Wi-8"}, "model_name = 'CNN-2/Wi-8': expected an S-MLP, B-MLP or MLP"),
        ({"model_name": "Linear"}, "model_name = 'Linear': expected an S-MLP, B-MLP or MLP"),
        ({"model_name": "S-0/Wi-8"}, "a depth of at least 1"),
        ({"parametrization": "mup"}, r"parametrization = 'mup': unknown \(allowed: ntk, standard\)"),
        ({"norm": "batch"}, "norm = 'batch': expected 'layer' or 'none'"),
        ({"norm": "group"}, "norm = 'group': unknown"),
        ({"activation": "tanh"}, "activation = 'tanh': expected 'gelu' or 'relu', whose Gaussian means have"),
        ({"activation": "sine"}, "activation = 'sine': unknown"),
        ({"variant": "code"}, "variant = 'code': unknown"),
        ({"skip": 1}, "skip = 1: expected True, False or None"),
        ({"weight_std": 0.0}, "weight_std = 0.0: expected a number greater than 0"),
        ({"bias_std": -1.0}, "bias_std = -1.0: expected a number of at least 0"),
        ({"layernorm_affine": "no"}, "layernorm_affine = 'no'"),
        ({"x1": torch.zeros(2, 3, dtype=torch.float16)}, "x1: expected float32 or float64"),
        ({"x1": torch.zeros(0, 3)}, "x1: expected a tensor of at least one example"),
        ({"x1": torch.zeros(3)}, r"x1: expected \(N, C, H, W\) or \(N, d\), found \(3,\)"),
        ({"x1": torch.tensor([[0.0], [math.nan]])}, "x1: example 1 is not finite"),
        ({"x2": torch.tensor([[0.0, 0.0, math.inf]])}, "x2: example 0 is not finite"),
        ({"x2": torch.zeros(2, 4)}, "x2: expected 3 numbers an example as in x1, found 4"),
        ({"norm": "none", "weight_std": 1e80}, "kernels overflow at weight_std = 1e"),
    ],
)
def test_refusals(arguments, message):
    given = {"model_name": "S-6/Wi-8", "x1": torch.ones(2, 3), **arguments}
    with pytest.raises(InputError, match=message):
        infinite_kernels(**given)


@pytest.mark.cuda
def test_on_cuda():
    x = _inputs()
    here, there = infinite_kernels("S-3/Wi-8", x), infinite_kernels("S-3/Wi-8", x.cuda())
    assert there.ntk.is_cuda
    torch.testing.assert_close(there.ntk.cpu(), here.ntk, rtol=1e-12, atol=0)
