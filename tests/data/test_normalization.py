import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import Dataset, Normalization, channel_statistics


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (5, 3, 4, 7), (2, 2, 1, 1)])
def test_against_float64(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    dataset = Dataset(
        images=torch.from_numpy(pixels),
        labels=torch.zeros(shape[0], dtype=torch.int64),
        classes=("a",),
        name="toy",
        split="train",
    )
    found = channel_statistics(dataset)
    np.testing.assert_allclose(found.mean, (pixels / 255).mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(found.std, (pixels / 255).std(axis=(0, 2, 3)), rtol=1e-13)


def test_a_constant_channel_is_left_alone():
    images = torch.full((3, 2, 2, 2), 51, dtype=torch.uint8)
    images[0, 1] = 255
    dataset = Dataset(images=images, labels=torch.zeros(3, dtype=torch.int64), classes=("a",), name="t", split="train")
    found = channel_statistics(dataset)
    assert (found.mean[0], found.std[0]) == (0.2, 1.0)
    assert 0 < found.std[1] < 1


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [((), (), "mean"), ((float("nan"),), (1.0,), "mean"), ((0.0,), (0.0,), "std"), ((0.0,), (1.0, 1.0), "std")],
)
def test_bad_values(mean, std, named):
    with pytest.raises(InputError, match=f"{named} = "):
        Normalization(mean=mean, std=std)


@pytest.mark.data
def test_cifar10_has_the_statistics_that_everybody_quotes(cifar_root):
    from mlptheory.data import load

    found = channel_statistics(load("cifar10", "train", cifar_root))
    np.testing.assert_allclose(found.mean, (0.4914, 0.4822, 0.4465), atol=5e-5)
    np.testing.assert_allclose(found.std, (0.2470, 0.2435, 0.2616), atol=5e-5)
