import numpy as np
import pytest
import torch
from scipy import stats

from mlptheory.base import InputError
from mlptheory.data import draw_mixup
from mlptheory.data.mixup import mixed


def test_one_weight_for_a_batch_and_another_for_the_next():
    weights = [draw_mixup(0, 0, batch, np.arange(8), 100, 0.8) for batch in range(2000)]
    assert all((batch == batch[0]).all() for batch in weights)
    assert stats.kstest([batch[0] for batch in weights], stats.beta(0.8, 0.8).cdf).pvalue > 1e-4


def test_one_weight_for_an_example_in_any_batch():
    everyone = draw_mixup(1, 3, 0, np.arange(2000), 2000, 0.4, "example")
    few = np.array([5, 1999, 0])
    assert np.array_equal(draw_mixup(1, 3, 17, few, 2000, 0.4, "example"), everyone[few])
    assert stats.kstest(everyone, stats.beta(0.4, 0.4).cdf).pvalue > 1e-4
    assert not np.array_equal(draw_mixup(1, 4, 0, np.arange(2000), 2000, 0.4, "example"), everyone)


@pytest.mark.parametrize("values", [{"alpha": 0.0}, {"alpha": float("inf")}, {"alpha": 1.0, "per": "image"}])
def test_bad_input(values):
    with pytest.raises(InputError, match=r"alpha = |per = 'image'"):
        draw_mixup(0, 0, 0, np.arange(2), 4, **values)


def test_each_image_is_mixed_with_the_one_before_it_in_its_member():
    images = torch.arange(6.0)[:, None, None, None]
    weights = torch.full((6,), 0.25)
    assert mixed(images, weights, members=2).flatten().tolist() == [1.5, 0.25, 1.25, 4.5, 3.25, 4.25]
