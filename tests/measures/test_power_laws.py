import math

import pytest
import scipy.optimize
import torch

from mlptheory.base import InputError
from mlptheory.measures import learning_curve_exponent, spectral_exponents


def _index(modes):
    return torch.arange(1, modes + 1, dtype=torch.float64)


def _scattered(exponent, modes, seed):
    """A power law times squares of standard normal numbers."""
    noise = torch.randn(modes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return _index(modes) ** -exponent * noise.square()


@pytest.mark.parametrize(("first", "last"), [(1, None), (3, 40), (10, 11), (1, 2)])
def test_power_laws_are_found_whatever_the_range_order_and_scale(first, last):
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found = spectral_exponents(1e-9 * _index(60)[order] ** -1.25, 7 * _index(60)[order] ** -3.5, first=first, last=last)
    assert found.eigenvalue == pytest.approx(1.25, abs=1e-9) and found.target == pytest.approx(3.5, abs=1e-9)
    assert found.convention == spectral_exponents.convention


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("first", "last"), [(1, 50), (4, 30)])
def test_the_fit_maximizes_the_likelihood(seed, first, last, twin):
    values, power = _index(50) ** -2, _scattered(2, 50, seed)
    found = spectral_exponents(values, power, first=first, last=last)

    def loss(parameters):
        amplitude, exponent = parameters
        total = 0.0
        for i in range(first, last + 1):
            log_mean = amplitude - exponent * math.log(i)
            total += (log_mean + power[i - 1].item() * math.exp(-log_mean)) / i
        return total

    best = scipy.optimize.minimize(loss, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    twin("spectral_exponents", [found.eigenvalue, found.target], [2.0, best.x[1]], rtol=1e-6)


def test_scatter_and_zeros_do_not_bias_the_fit():
    values, exponents = _index(2000) ** -1.5, []
    for seed in range(40):
        power = _scattered(2.5, 2000, seed)
        power[::2] = 0
        exponents.append(spectral_exponents(values, power, first=10).target)
    mean, error = torch.tensor(exponents).mean().item(), torch.tensor(exponents).std().item() / 40**0.5
    assert mean == pytest.approx(2.5, abs=3.5 * error) and error < 0.02


@pytest.mark.parametrize(
    ("a", "b", "ridge", "expected"),
    [(1.5, 2, False, 1), (1.5, 4, False, 3), (1.5, 9, False, 3), (2, 4, True, 1.5), (2, 5, True, 2), (2, 50, True, 2)],
)
def test_exponents_are_those_of_the_papers(a, b, ridge, expected):
    assert learning_curve_exponent(a, b, ridge=ridge) == expected


def test_in_a_laplace_kernels_terms_it_is_spiglers(twin):
    """Their β = min(α_T - d, 2 α_S) / d, with eigenvalues falling as the wave number to the α."""
    for dimension, student, teacher in [(3, 4, 6), (5, 6, 20), (2, 3, 3)]:
        expected = min(teacher - dimension, 2 * student) / dimension
        found = learning_curve_exponent(student / dimension, teacher / dimension)
        twin("learning_curve_exponent", found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 0}, "first = 0: expected an integer of at least 1"),
        ({"first": 4, "last": 4}, "last = 4: expected an integer of at least 5"),
        ({"last": 11}, "last = 11: expected at most 10, the number of modes"),
        ({"power": torch.ones(9)}, r"power: expected shape \(M,\), one for each mode, found \(9,\)"),
        ({"eigenvalues": torch.ones(2, 5)}, r"eigenvalues: expected shape \(M,\)"),
        ({"eigenvalues": -torch.ones(10)}, "eigenvalues: expected finite numbers of at least 0"),
        ({"power": torch.full((10,), torch.nan)}, "power: expected finite numbers of at least 0"),
        ({"power": torch.zeros(10)}, "power: expected some that are not 0 near both ends"),
        ({"power": torch.eye(10)[0]}, "power: expected some that are not 0 near both ends"),
        ({"eigenvalues": torch.eye(10)[0] + torch.eye(10)[1]}, "eigenvalues: expected some that are not 0 near both"),
    ],
)
def test_what_is_no_power_law_is_refused(arguments, message):
    good = {"eigenvalues": _index(10) ** -2, "power": _index(10) ** -2}
    with pytest.raises(InputError, match=message):
        spectral_exponents(**good | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "eigenvalue_exponent = 1: expected a number greater than 1"),
        ((2, 0.5), "target_exponent = 0.5: expected a number greater than 1"),
    ],
)
def test_what_has_no_finite_sum_has_no_exponent(arguments, message):
    with pytest.raises(InputError, match=message):
        learning_curve_exponent(*arguments)
    with pytest.raises(InputError, match="ridge = 1: expected true or false"):
        learning_curve_exponent(2, 2, ridge=1)
