import numpy as np
import pytest
import torch
from lion_pytorch import Lion
from torch import nn

from mlptheory.base import InputError
from mlptheory.models import build, lr_multipliers

OPTIMIZERS = {
    "sgd": (lambda groups: torch.optim.SGD(groups, lr=0.1), 0.1),
    "adamw": (lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0, eps=1e-12), 1e-3),
    "lion": (lambda groups: Lion(groups, lr=1e-3), 1e-3),
}


def growth(name, parametrization, optimizer, widths, steps=4):
    """Return, by activation, the slope of log(RMS change after some steps) against log(width)."""
    make, lr = OPTIMIZERS[optimizer]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 1, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (16,), generator=generator)
    changes = []
    for width in widths:
        options = {"parametrization": parametrization, "base_width": widths[0]}
        model = build(name.format(width), image_size=4, channels=1, num_classes=5, **options).double()
        factors = lr_multipliers(model, optimizer)
        trained = make([{"params": [p], "lr": lr * factors[name]} for name, p in model.named_parameters()])
        before = model.intermediates(x)
        for _ in range(steps):
            trained.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            trained.step()
        after = model.intermediates(x)
        changes.append([(after[key] - before[key]).detach().square().mean().sqrt().item() for key in before])
    slopes = np.polyfit(np.log(widths), np.log(changes), 1)[0]
    return dict(zip(before, slopes, strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("S-3/Wi-{}", (32, 64, 128, 256)),
        ("B-2/Wi-{}", (32, 64, 128, 256)),
        ("MLP-3/Wi-{}", (32, 64, 128, 256)),
        ("CNN-2/Wi-{}", (8, 16, 32, 64)),
    ],
)
def test_coordinate_check(name, widths, optimizer):
    mup = growth(name, "mup", optimizer, widths)
    standard = growth(name, "standard", optimizer, widths)
    # A wrong power of the width in one layer shifts a slope by at least 1/2.
    assert all(abs(slope) < 0.2 for slope in mup.values()), mup
    assert standard["logits"] > (0.35 if optimizer == "sgd" else 0.75), standard


@pytest.mark.parametrize("name", ["S-3/Wi-{}", "B-2/Wi-{}"])
def test_under_ntk_sgd_moves_the_function_and_not_the_features(name):
    slopes = growth(name, "ntk", "sgd", (64, 128, 256, 512))
    assert abs(slopes["logits"]) < 0.2, slopes
    assert slopes["embedding"] == pytest.approx(-0.5, abs=0.15), slopes


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_mup_has_multipliers(parametrization, optimizer):
    model = build("B-2/Wi-64", image_size=2, num_classes=3, parametrization=parametrization, base_width=16)
    factors = lr_multipliers(model, optimizer)
    assert list(factors) == [name for name, _ in model.named_parameters()]
    assert set(factors.values()) == {1.0}


def test_mup_multipliers_of_the_plain_mlp_are_those_of_input_hidden_and_output():
    model = build("MLP-2/Wi-64", image_size=2, num_classes=3, parametrization="mup", base_width=16)
    factors = {
        "blocks.0.linear.weight": (4, 1),
        "blocks.0.linear.bias": (4, 1),
        "blocks.1.norm.weight": (4, 1),
        "blocks.1.norm.bias": (4, 1),
        "blocks.1.linear.weight": (1, 1 / 4),
        "blocks.1.linear.bias": (4, 1),
        "head.weight": (4, 1),
        "head.bias": (1, 1),
    }
    assert lr_multipliers(model, "sgd") == {name: sgd for name, (sgd, _) in factors.items()}
    assert lr_multipliers(model, "lion") == {name: lion for name, (_, lion) in factors.items()}


def test_mup_multipliers_name_every_parameter():
    model = build("S-1/Wi-64", image_size=2, num_classes=3, parametrization="mup", base_width=16)
    factors = {
        "embedding.weight": (4, 1),
        "embedding.bias": (4, 1),
        "blocks.0.norm.weight": (4, 1),
        "blocks.0.norm.bias": (4, 1),
        "blocks.0.linear.weight": (1, 0.25),
        "blocks.0.linear.bias": (4, 1),
        "head.weight": (4, 1),
        "head.bias": (1, 1),
    }
    assert lr_multipliers(model, "sgd") == {name: factor[0] for name, factor in factors.items()}
    assert lr_multipliers(model, "adamw") == {name: factor[1] for name, factor in factors.items()}
    assert lr_multipliers(model, "lion") == lr_multipliers(model, "adamw")


def test_other_modules_have_none():
    assert lr_multipliers(nn.Linear(2, 3), "sgd") == {"weight": 1.0, "bias": 1.0}


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InputError, match="optimizer = 'lyon': unknown; did you mean 'lion'"):
        lr_multipliers(nn.Linear(2, 3), "lyon")
