"""Softmax regression: affine, seeded like any head, without the options of deeper models."""

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.models import Linear, ModelConfig, ParsedName, build, count_parameters, lr_multipliers, parse_name


@pytest.mark.parametrize("options", [{}, {"output_scale": 3.0}, {"parametrization": "ntk"}, {"norm": "none"}])
def test_forward_is_affine(options):
    model = build("Linear", image_size=(2, 3), channels=2, num_classes=4, seed=3, **options).double()
    x = torch.randn(5, 2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight, bias = (parameter.detach().numpy() for parameter in (model.head.weight, model.head.bias))
    if options.get("parametrization") == "ntk":
        weight, bias = weight / np.sqrt(12), 0.1 * bias
    expected = options.get("output_scale", 1) * (x.reshape(5, 12).numpy() @ weight.T + bias)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-13, atol=1e-13)
    assert isinstance(model, Linear) and count_parameters(model) == 4 * 13
    assert torch.equal(model.intermediates(x)["logits"], model(x))


def test_it_starts_like_the_head_of_any_other_model():
    model = build("Linear", image_size=4, channels=1, num_classes=2, seed=1)
    assert model.head.weight.abs().max() <= 1 / 4 and model.head.bias.abs().max() <= 1 / 4
    assert model.head.weight.std() > 0.1
    again, other = (build("Linear", image_size=4, channels=1, num_classes=2, seed=seed) for seed in (1, 2))
    assert torch.equal(model.head.weight, again.head.weight) and not torch.equal(model.head.weight, other.head.weight)
    for optimizer in ("sgd", "lion"):
        assert lr_multipliers(model, optimizer) == {"head.weight": 1.0, "head.bias": 1.0}


def test_its_name_has_no_numbers():
    assert parse_name("Linear") == ParsedName("Linear", "Linear")
    for name in ("Linear-2/Wi-8", "Linear-1/Wi-8/E-2"):
        with pytest.raises(InputError, match="unknown family 'Linear'") as caught:
            parse_name(name)
        assert "did you mean 'Linear-" not in str(caught.value)
    with pytest.raises(InputError, match="did you mean 'Linear'"):
        parse_name("linear")


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "batch"},
        {"activation": "relu"},
        {"dropout": 0.1},
        {"skip": True},
        {"parametrization": "mup"},
        {"variant": "authors"},
    ],
)
def test_options_of_hidden_layers_are_refused(options):
    (option, value), *_ = options.items()
    with pytest.raises(InputError, match=f"{option} = {value!r}: expected .* for 'Linear', which has no hidden layer"):
        ModelConfig(name="Linear", **options)


def test_resolving_changes_nothing_that_matters():
    resolved = ModelConfig(name="Linear").resolved()
    assert (resolved.activation, resolved.skip) == (None, False)
    assert resolved.resolved() == resolved
