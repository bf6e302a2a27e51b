"""Small ugly models, and what they are measured on, for the tests of curvature and of noise."""

from __future__ import annotations

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
    "B-MLP": lambda: (_mlp("B-2/Wi-4/E-2", dropout=0.5), _smoothed, _images(6, (2, 3, 3)), _labels(6, 3)),
    "batch normalization": lambda: (_mlp("S-1/Wi-5", norm="batch"), _smoothed, _images(6, (2, 3, 3)), _labels(6, 3)),
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
    "unused parameter": lambda: (_with_spare(), _squared, _images(4, (3,)), _images(4, (1,))),
}


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
