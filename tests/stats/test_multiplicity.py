import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlptheory.base import InputError
from mlptheory.base.random import generator
from mlptheory.stats import bonferroni_level, holm, mean_interval


def closed_testing_twin(p):
    """Holm is the closure of Bonferroni: an adjusted p-value is the largest over all sets that hold its hypothesis."""
    m = range(len(p))
    sets = [s for size in m for s in combinations(m, size + 1)]
    return [max(min(1, len(s) * min(p[i] for i in s)) for s in sets if k in s) for k in m]


@pytest.mark.parametrize(
    "p", [[0.3], [0.01, 0.04, 0.03], [0.5, 0.5], [0.0, 1.0], [0.02, 0.02, 0.02], [0.9, 0.001, 0.013, 0.02, 0.0125]]
)
def test_holm_is_the_closure_of_bonferroni(p):
    assert holm(p) == pytest.approx(closed_testing_twin(p))


def test_holm_leaves_its_input_alone():
    p = np.array([0.04, 0.01])
    holm(p)
    assert p.tolist() == [0.04, 0.01]


def test_bonferroni_intervals_cover_together():
    level = bonferroni_level(3)
    assert 3 * (1 - level) == pytest.approx(0.05)
    draws = generator(0, "test simultaneous").normal(size=(1500, 3, 4))
    hits = [[mean_interval(row, level=level) for row in study] for study in draws]
    covered = sum(all(i.low <= 0 <= i.high for i in study) for study in hits)
    assert scipy_stats.binomtest(covered, len(draws)).proportion_ci(0.999, "exact").high >= 0.95


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([], "length 0"),
        ([0.1, 1.2], "p_values[1] = 1.2: expected a number from 0 to 1"),
        ([math.nan], "p_values[0] = nan"),
    ],
)
def test_bad_p_values_are_named(p, message):
    with pytest.raises(InputError) as caught:
        holm(p)
    assert message in str(caught.value)


def test_no_claims_are_refused():
    with pytest.raises(InputError, match="claims = 0: expected an integer of at least 1"):
        bonferroni_level(0)
