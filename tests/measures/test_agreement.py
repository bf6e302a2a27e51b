import numpy as np
import pytest

from mlptheory.base import InputError
from mlptheory.measures import prediction_agreement


def test_agreement_is_the_share_of_equal_predictions():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 3, size=(2, 101))
    assert prediction_agreement(a, b) == sum(x == y for x, y in zip(a, b, strict=True)) / 101
    assert prediction_agreement(a, a) == 1.0
    assert prediction_agreement(a, a + 1) == 0.0
    assert prediction_agreement([1, 2], (1, 3)) == 0.5
    assert type(prediction_agreement(a, b)) is float


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([], []), ([[1]], [[1]]), (1, 1)])
def test_lists_that_do_not_pair_up_are_refused(a, b):
    with pytest.raises(InputError, match="expected two equally long lists"):
        prediction_agreement(np.array(a), np.array(b))
