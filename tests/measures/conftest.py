"""Small ugly models, and what they are measured on; the record of how far measures are from their twins."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlptheory.models import build


class Tied(nn.Module):
    """One matrix, used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def _images(n, shape, dtype=torch.float64):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(n), dtype=dtype)


def _labels(n, classes):
    return torch.arange(n) % classes


def _smoothed(logits, targets):
    return F.cross_entropy(logits, targets, label_smoothing=0.3, reduction="none")


def _squared(logits, targets):
    return (logits - targets).square().sum(dim=1)


def _mlp(name, **options):
    return build(name, image_size=3, channels=2, num_classes=3, **options)


def _frozen():
    model = _mlp("S-2/Wi-5").double()
    model.embedding.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    return model


CASES = {
    "S-MLP": lambda: (_mlp("S-2/Wi-5"), _smoothed, _images(7, (2, 3, 3)), _labels(7, 3)),
    "B-MLP": lambda: (_mlp("B-2/Wi-4/E-2", dropout=0.5).eval(), _smoothed, _images(6, (2, 3, 3)), _labels(6, 3)),
    "batch normalization": lambda: (_batch_normalized(), _smoothed, _images(6, (2, 3, 3)), _labels(6, 3)),
    "CNN": lambda: (_mlp("CNN-2/Wi-2"), _smoothed, _images(5, (2, 3, 3)), _labels(5, 3)),
    "muP": lambda: (
        _mlp("B-1/Wi-4", parametrization="mup", base_width=2),
        _smoothed,
        _images(5, (2, 3, 3)),
        _labels(5, 3),
    ),
    "one output": lambda: (
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        _squared,
        _images(5, (3,)),
        _images(5, (1,)),
    ),
    "frozen": lambda: (_frozen(), _smoothed, _images(7, (2, 3, 3)), _labels(7, 3)),
    "tied": lambda: (Tied(), _smoothed, _images(6, (4,)), _labels(6, 4)),
    "not contiguous": lambda: (
        _mlp("S-2/Wi-5"),
        _smoothed,
        _images(8, (3, 3, 2)).permute(0, 3, 2, 1)[::2],
        _labels(8, 3)[::2],
    ),
    "float32": lambda: (
        _mlp("S-1/Wi-5"),
        _squared,
        _images(5, (2, 3, 3), torch.float32),
        _images(5, (3,), torch.float32),
    ),
    "one example": lambda: (_mlp("S-1/Wi-4"), _smoothed, _images(1, (2, 3, 3)), _labels(1, 3)),
    "NTK parametrization": lambda: (
        _mlp("S-2/Wi-4", parametrization="ntk"),
        _smoothed,
        _images(4, (2, 3, 3)),
        _labels(4, 3),
    ),
    "no rule": lambda: (_Gated(), _squared, _images(4, (3,)), _images(4, (2,))),
    "used twice": lambda: (_Recurrent(), _smoothed, _images(5, (4,)), _labels(5, 4)),
    "unused parameter": lambda: (_with_spare(), _squared, _images(4, (3,)), _images(4, (1,))),
}


class _Gated(nn.Module):
    """Parameters outside of any layer, and a layer whose weight is used beside its call."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.tensor([0.5, -1.0]))
        self.linear = nn.Linear(3, 2)
        self.weights = nn.ParameterList([nn.Parameter(torch.linspace(-1, 1, 3))])

    def forward(self, x):
        hidden = torch.sigmoid(self.gate) * self.linear(x * self.weights[0])
        return hidden + torch.tanh(x) @ self.linear.weight.T


class _Recurrent(nn.Module):
    """One layer and one normalization, called twice."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        for _ in range(2):
            x = torch.tanh(self.linear(self.norm(x)))
        return x


def _batch_normalized():
    """Running statistics, scale and shift that are not those of the start."""
    model = _mlp("S-1/Wi-5", norm="batch")
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for value in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


def _with_spare():
    model = nn.Sequential(nn.Linear(3, 1))
    model.register_parameter("spare", nn.Parameter(torch.ones(2)))
    return model


@pytest.fixture(params=CASES)
def case(request):
    """A model, a loss of each example, inputs and targets."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CASES[request.param]()


@pytest.fixture
def state_of():
    """Everything about a model, and about torch, that a measure must leave alone."""

    def read(model):
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return {
            "values": {name: value.clone() for name, value in model.state_dict().items()},
            "gradients": gradients,
            "modes": [module.training for module in model.modules()],
            "flags": [p.requires_grad for p in model.parameters()],
            "dtypes": [str(p.dtype) for p in model.parameters()],
            "rng": torch.get_rng_state(),
            "autocast": torch.is_autocast_enabled("cpu"),
            "grad": torch.is_grad_enabled(),
        }

    return read


@pytest.fixture
def same_state():
    def compare(a, b):
        for what, value in a.items():
            if what in ("values", "gradients", "rng"):
                torch.testing.assert_close(value, b[what], rtol=0, atol=0)
            else:
                assert value == b[what], what

    return compare


def pytest_addoption(parser):
    parser.addoption("--twins", metavar="FILE", help="write how far every measure is from its twin, as a table")


def pytest_configure(config):
    config.stash[_AGREEMENTS] = {}


_AGREEMENTS = pytest.StashKey()


@pytest.fixture
def twin(request):
    """Hold a measure to its brute-force twin, and keep for the table how far apart they are.

    ``twin(measure, found, expected, rtol=1e-10)``: the measure's name; tensors, arrays or numbers of the same shape.
    The error is the largest difference over the largest magnitude expected; where all is 0, the difference itself.
    """
    agreements = request.config.stash[_AGREEMENTS]

    def compare(measure, found, expected, rtol=1e-10):
        found, expected = (torch.as_tensor(value, dtype=torch.float64).detach().cpu() for value in (found, expected))
        assert found.shape == expected.shape, f"{measure}: {tuple(found.shape)} against {tuple(expected.shape)}"
        assert torch.isfinite(expected).all(), f"{measure}: the twin is not finite"
        scale = expected.abs().max().item() if expected.numel() else 0.0
        error = (found - expected).abs().max().item() / (scale or 1.0) if expected.numel() else 0.0
        cases, comparisons, worst = agreements.get(measure, (frozenset(), 0, 0.0))
        agreements[measure] = (cases | {request.node.nodeid}, comparisons + 1, max(worst, error))
        assert error <= rtol, f"{measure}: {error:.1e} apart from its twin, {rtol:.1e} allowed"

    return compare


TWINS_PAGE = """\
# Measures and their twins

Measures beside a twin that computes the same by brute force: loops, finite differences, dense matrices,
quadrature, or another library. A case is one test, over the shared list of small, ugly cases where a model is
measured; the error is the largest difference over the largest magnitude, the worst of all comparisons. Where it is far
above rounding, the twin is a finite difference, an iteration or a simulation, or the case is in float32; `plan_ntk`
is a prediction, held to what the allocator gave. `make twins` writes this page{ran}.

{table}
"""


def pytest_terminal_summary(terminalreporter, config):
    if (path := config.getoption("--twins", default=None)) is None:
        return
    rows = [
        f"| `{measure}` | {len(cases)} | {comparisons} | {worst:.1e} |"
        for measure, (cases, comparisons, worst) in sorted(config.stash[_AGREEMENTS].items())
    ]
    table = "\n".join(["| measure | cases | comparisons | worst relative error |", "|---|---:|---:|---:|", *rows])
    ran = f" (here: torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads)"
    with open(path, "w", encoding="utf-8") as file:
        file.write(TWINS_PAGE.format(ran=ran, table=table))
    terminalreporter.write_line(table)
