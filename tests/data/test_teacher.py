"""The teacher: what it says is what its labels follow, on every platform."""

import math

import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.data import load, teacher_probabilities
from mlptheory.data.teacher import _WEIGHTS


def every_image():
    bits = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    return torch.from_numpy((255 * bits).astype(np.uint8)).reshape(-1, 1, 4, 4)


def test_the_data_are_the_same_everywhere():
    train, test = load("teacher", "train"), load("teacher", "test")
    assert (len(train), len(test), train.image_shape) == (2**16, 2**13, (1, 4, 4))
    # The digests are part of every record's: a change here makes all stored results void.
    assert (train.digest[:16], test.digest[:16]) == ("ce3648c7bfad4fd2", "8db1b8cf29ac9d63")


@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_are_independent_fair_coins(split):
    images = load("teacher", split).images.flatten(1).double()
    assert set(images.unique().tolist()) == {0.0, 255.0}
    signs = images / 127.5 - 1
    # Means and products of pairs are sums of N fair signs: 5 standard deviations.
    bound = 5 / math.sqrt(len(signs))
    assert (signs.mean(0).abs() < bound).all()
    assert ((signs.T @ signs / len(signs) - torch.eye(16)).abs() < bound).all()


def test_the_law_is_the_logistic_of_the_signs():
    images = torch.randint(0, 256, (7, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = teacher_probabilities(images)
    for image, row in zip(images, found, strict=True):
        logit = sum(w * (u / 127.5 - 1) for w, u in zip(_WEIGHTS, image.flatten().tolist(), strict=True))
        assert row == pytest.approx([1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))], rel=1e-14)
    assert found.dtype == np.float64 and (_WEIGHTS**2).sum() == 1


def test_no_label_hangs_on_rounding():
    # Logits are multiples of 1/16 and exact, so a label could differ between platforms only through exp.
    logits = (every_image().flatten(1).numpy() / 127.5 - 1) @ _WEIGHTS
    assert (logits * 16 == np.round(logits * 16)).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_follow_the_law(split):
    dataset = load("teacher", split)
    p = teacher_probabilities(dataset.images)[:, 1]
    labels = dataset.labels.numpy()
    for bits in [None, *range(16)]:
        # Score of the logistic law: mean 0 at the truth, in the direction of the bias and of every pixel.
        direction = 1.0 if bits is None else dataset.images.flatten(1)[:, bits].numpy() / 127.5 - 1
        score, variance = (direction * (labels - p)).sum(), (p * (1 - p)).sum()
        assert abs(score) < 5 * math.sqrt(variance)
    for low in np.arange(0.1, 0.9, 0.1):
        among = (p >= low) & (p < low + 0.1)
        assert abs(labels[among].sum() - p[among].sum()) < 5 * math.sqrt((p * (1 - p))[among].sum())


def test_the_best_accuracy_is_the_one_the_page_states():
    assert teacher_probabilities(every_image()).max(1).mean() == pytest.approx(0.677, abs=5e-4)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)])
def test_other_images_have_no_law(images):
    with pytest.raises(InputError, match=r"expected uint8 of shape \(N, 1, 4, 4\)"):
        teacher_probabilities(images)
