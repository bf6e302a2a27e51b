import math

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.measures import weight_distance, weight_norm
from mlptheory.models import build


def _model(seed, **options):
    return build("B-2/Wi-7", image_size=3, channels=2, num_classes=5, seed=seed, **options)


def test_norm_and_distance_equal_numpys_over_all_parameters(twin):
    a, b = _model(0), _model(1, norm="layer")
    flat = [np.concatenate([p.detach().double().numpy().ravel() for p in m.parameters()]) for m in (a, b)]
    twin("weight_norm", weight_norm(a), np.linalg.norm(flat[0]), rtol=1e-14)
    twin("weight_distance", weight_distance(a, b), np.linalg.norm(flat[0] - flat[1]), rtol=1e-14)
    assert weight_distance(a, b) == weight_distance(b, a)
    assert weight_distance(a, a) == 0.0
    assert weight_distance(a, dict(b.named_parameters())) == weight_distance(a, b)


def test_a_model_of_ones_has_the_root_of_its_size():
    model = _model(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    assert weight_norm(model) == math.sqrt(sum(p.numel() for p in model.parameters()))


def test_small_parts_are_not_lost_in_float32():
    big = {"a": torch.tensor([1e4]), "b": torch.full((10_000,), 1e-3)}
    assert weight_norm(big) == pytest.approx(math.sqrt(1e8 + 10_000 * 1e-6), rel=1e-12)
    single, double = {"a": torch.tensor([1e8])}, {"a": torch.tensor([1.0], dtype=torch.float64)}
    assert weight_distance(single, double) == weight_distance(double, single) == 1e8 - 1
    half = {"a": torch.full((4,), 300.0, dtype=torch.float16)}
    assert weight_norm(half) == 600.0


def test_no_parameters_and_scalars():
    assert weight_norm({}) == 0.0
    assert weight_norm(torch.nn.Identity()) == 0.0
    assert weight_norm({"a": torch.tensor(-2.0)}) == 2.0


@pytest.mark.parametrize(
    ("other", "name"),
    [({"a": torch.zeros(3)}, "a"), ({"b": torch.zeros(2)}, "a"), ({"a": torch.zeros(2), "b": torch.zeros(1)}, "b")],
)
def test_other_names_or_shapes_are_refused(other, name):
    with pytest.raises(InputError, match=f"parameter '{name}': expected the same shape"):
        weight_distance({"a": torch.zeros(2)}, other)


def test_models_are_handed_back_as_they_came():
    a, b = _model(0), _model(1)
    a(torch.zeros(1, 2, 3, 3)).sum().backward()
    before = [p.grad.clone() for p in a.parameters()], torch.get_rng_state()
    weight_norm(a), weight_distance(a, b)
    assert all(torch.equal(p.grad, grad) for p, grad in zip(a.parameters(), before[0], strict=True))
    assert all(p.requires_grad for p in a.parameters())
    assert torch.equal(torch.get_rng_state(), before[1])
