"""The critical batch size, planted and found again."""

import numpy as np
import pytest

from mlptheory.base import InputError
from mlptheory.stats import critical_batch_size


@pytest.mark.parametrize("critical", [3.0, 40.0, 1e3, 5e4])
@pytest.mark.parametrize("sizes", [[16, 64, 256], [1024, 8, 64, 512]])
def test_a_planted_one_is_found_whatever_the_order_and_scale(critical, sizes):
    sizes = np.array(sizes)
    steps = 321.0 * (1 + critical / sizes)
    assert critical_batch_size(sizes, steps) == pytest.approx(critical, rel=1e-6)
    assert critical_batch_size(sizes, 1e6 * steps) == pytest.approx(critical, rel=1e-6)


def test_it_is_the_least_squares_fit_of_log_steps():
    sizes, draw = np.array([16.0, 64.0, 256.0, 1024.0]), np.random.default_rng(0)
    steps = 100 * (1 + 200 / sizes) * np.exp(0.1 * draw.normal(size=4))

    def misfit(critical):
        residual = np.log(steps) - np.log(1 + critical / sizes)
        return ((residual - residual.mean()) ** 2).sum()

    found = critical_batch_size(sizes, steps)
    everywhere = np.exp(np.linspace(np.log(0.01), np.log(1e6), 20_000))
    assert misfit(found) <= min(misfit(critical) for critical in everywhere) + 1e-12


def test_steps_that_do_not_fall_or_fall_as_one_over_b_tell_the_side_alone():
    sizes = np.array([16, 64, 256])
    assert critical_batch_size(sizes, np.full(3, 100.0)) == 0.0
    assert critical_batch_size(sizes, 1e5 / sizes) == np.inf
    assert critical_batch_size(sizes, 1e5 / sizes**1.1) == np.inf
    assert critical_batch_size(sizes, sizes) == 0.0


@pytest.mark.parametrize(
    ("sizes", "steps"), [([16, 64], [2, 1]), ([16, 16, 64], [3, 2, 1]), ([16, 64, 256], [2, 1]), ([1, 2, 3], [1, 0, 1])]
)
def test_what_determines_no_fit_is_refused(sizes, steps):
    with pytest.raises(InputError):
        critical_batch_size(sizes, steps)
