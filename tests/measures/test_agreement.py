import itertools

import numpy as np
import pytest

from mlptheory.base import InputError
from mlptheory.measures import chance_accuracy, prediction_agreement


def test_agreement_is_the_share_of_equal_predictions(twin):
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 3, size=(2, 101))
    share = sum(x == y for x, y in zip(a, b, strict=True)) / 101
    twin("prediction_agreement", prediction_agreement(a, b), share, rtol=0)
    assert prediction_agreement(a, a) == 1.0
    assert prediction_agreement(a, a + 1) == 0.0
    assert prediction_agreement([1, 2], (1, 3)) == 0.5
    assert type(prediction_agreement(a, b)) is float


@pytest.mark.parametrize(("a", "b"), [([1], [1, 2]), ([], []), ([[1]], [[1]]), (1, 1)])
def test_lists_that_do_not_pair_up_are_refused(a, b):
    with pytest.raises(InputError, match="expected two equally long lists"):
        prediction_agreement(np.array(a), np.array(b))


@pytest.mark.parametrize(
    ("predictions", "labels"), [([0, 0, 2, 1, 2], [1, 1, 0, 2, 0]), ([3, 3, 3, 3], [0, 1, 3, 3]), ([1], [0])]
)
def test_chance_is_the_mean_accuracy_over_all_permutations(predictions, labels, twin):
    permuted = [np.mean(np.array(predictions) == order) for order in itertools.permutations(labels)]
    twin("chance_accuracy", chance_accuracy(predictions, np.array(labels)), np.mean(permuted), rtol=1e-14)


def test_chance_needs_as_many_predictions_as_labels():
    with pytest.raises(InputError, match="expected two equally long lists"):
        chance_accuracy([1, 2], [1])
