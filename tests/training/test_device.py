import pytest
import torch

from mlptheory.base import InputError
from mlptheory.training import default_device, has_bfloat16_hardware, resolve_precision
from mlptheory.training.device import autocast, weight_dtype


def test_auto_is_what_the_hardware_has():
    assert resolve_precision("auto", "cpu") == ("bfloat16" if has_bfloat16_hardware("cpu") else "float32")
    for name in ("float32", "bfloat16", "float64"):
        assert resolve_precision(name, "cpu") == name
    with pytest.raises(InputError, match="precision = 'float64': expected float32 or bfloat16"):
        resolve_precision("float64", "mps")
    assert not has_bfloat16_hardware("mps")
    assert default_device() in ("cuda", "mps", "cpu")


def test_weights_are_never_bfloat16():
    assert [weight_dtype(name) for name in ("float32", "bfloat16", "float64")] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]


@pytest.mark.parametrize("outside", [False, True])
def test_autocast_shields_and_does_not_remember_weights(outside):
    weight = torch.nn.Parameter(torch.eye(3))
    x = torch.full((1, 3), 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outside):
        with autocast("float32", "cpu"):
            assert (x @ weight).dtype == torch.float32
        with torch.no_grad(), autocast("bfloat16", "cpu"):
            assert (x @ weight).dtype == torch.bfloat16
        with torch.no_grad():
            weight.mul_(2)
        with autocast("bfloat16", "cpu"):
            product = x @ weight
        assert product.tolist() == [[2.0, 2.0, 2.0]] and product.requires_grad
        assert torch.is_autocast_enabled("cpu") == outside
