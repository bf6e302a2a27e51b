import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import lack_of_fit


def nested_twin(y, x):
    """F test of nested least-squares models: blocks and a line, against blocks and arms."""
    blocks, arms = y.shape
    block, arm = (index.ravel() for index in np.indices(y.shape))
    of_blocks = np.eye(blocks)[block]
    line = np.column_stack([of_blocks, np.asarray(x, float)[arm]])
    full = np.column_stack([of_blocks, np.eye(arms)[arm][:, 1:]])

    def residual(design):
        fitted = design @ np.linalg.lstsq(design, y.ravel())[0]
        return ((y.ravel() - fitted) ** 2).sum(), y.size - np.linalg.matrix_rank(design)

    (of_line, df_line), (of_full, df_full) = residual(line), residual(full)
    f = (of_line - of_full) / (df_line - df_full) / (of_full / df_full)
    return f, df_line - df_full, df_full, scipy_stats.f.sf(f, df_line - df_full, df_full)


@pytest.mark.parametrize(
    ("blocks", "x"), [(2, [0, 1, 2]), (5, [6, 8, 10, 12]), (3, [1, 2, 4, 8, 9.5]), (4, [0, 0, 1]), (7, [-3, 2, 100])]
)
def test_equals_the_test_of_nested_models(blocks, x):
    rng = generator(0, "test lack of fit", blocks, len(x))
    y = rng.normal(size=(blocks, len(x))) + 10 * rng.normal(size=(blocks, 1)) + np.abs(x) ** 0.5
    assert tuple(lack_of_fit(y, x)) == pytest.approx(nested_twin(y, x), rel=1e-8)


def test_a_line_and_block_shifts_change_nothing():
    y = generator(1, "test lack of fit").normal(size=(4, 4))
    x = np.array([6, 8, 10, 12])
    moved = y + 3 * x + np.array([[100.0], [-50.0], [0.0], [7.0]])
    assert tuple(lack_of_fit(moved, x)) == pytest.approx(tuple(lack_of_fit(y, x)), rel=1e-9)


def test_rejects_a_line_at_its_rate_and_sees_a_hump():
    rng = generator(2, "test lack of fit")
    x = np.array([6.0, 8, 10, 12])
    noise = rng.normal(size=(1500, 4, 4)) + 5 * rng.normal(size=(1500, 4, 1))
    rejected = sum(lack_of_fit(y + 0.8 * x, x).p < 0.05 for y in noise)
    band = scipy_stats.binomtest(rejected, 1500).proportion_ci(0.999, "exact")
    assert band.low <= 0.05 <= band.high
    assert sum(lack_of_fit(y + np.array([0, 4, 4, 0]), x).p < 0.05 for y in noise[:200]) > 190


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_without_spread_there_is_no_test(bend):
    y = np.array([[0.1, 0.2 + bend, 0.3]]) + np.array([[0.0], [0.7], [1.3]])
    test = lack_of_fit(y, [1, 2, 3])
    assert math.isnan(test.f) and math.isnan(test.p) and (test.df1, test.df2) == (1, 4)


@pytest.mark.parametrize(
    ("values", "x", "message"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], [0, 1], "expected at least 3 arms"),
        ([[1.0, 2.0, 3.0]], [0, 1, 2], "values has shape (1, 3): expected (blocks, arms), at least 2 of each"),
        ([[1.0, 2.0, math.nan], [1, 2, 3]], [0, 1, 2], "values[0, 2] = nan"),
        ([[1.0, 2.0, 3.0], [1, 2, 3]], [0, 1], "x has length 2: expected one per arm, 3"),
        ([[1.0, 2.0, 3.0], [1, 2, 3]], [1, 1, 1], "at least two different values"),
    ],
)
def test_bad_tables_are_named(values, x, message):
    with pytest.raises(InputError) as caught:
        lack_of_fit(values, x)
    assert message in str(caught.value)
