import numpy as np
import pytest
import torch

from mlptheory.base import InputError
from mlptheory.base.random import uniform
from mlptheory.data import Dataset, split_validation, subset, with_label_noise, with_shuffled_labels

# Balanced, lopsided, one example a class, one class, one example, an empty class, a big class beside many small ones.
COUNTS = [[6, 6, 6], [1, 30, 4, 2], [1, 1, 1, 1], [7], [1], [3, 0, 5], [40] + [1] * 12, [13, 11, 7, 5, 3, 2]]


def dataset_of(counts):
    labels = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)))
    size = len(labels)
    # Pixel 0 and 1 number the example.
    images = torch.zeros(size, 1, 1, 2, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(size) % 256, torch.arange(size) // 256
    return Dataset(images=images, labels=labels, classes=tuple(map(str, range(len(counts)))), name="toy", split="train")


def indices(dataset):
    pixels = dataset.images[:, 0, 0].to(torch.int64)
    return (pixels[:, 0] + 256 * pixels[:, 1]).tolist()


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_subsets_are_nested_proportional_and_in_order(counts, seed):
    dataset = dataset_of(counts)
    smaller = set()
    for n in range(1, len(dataset) + 1):
        part = subset(dataset, n, seed)
        chosen = indices(part)
        assert len(chosen) == n and chosen == sorted(chosen)
        assert smaller < set(chosen)
        smaller = set(chosen)
        quota = n * np.array(counts) / sum(counts)
        found = part.labels.bincount(minlength=len(counts)).numpy()
        assert (np.abs(found - quota) < 1).all(), (n, found, quota)
        assert torch.equal(part.labels, dataset.labels[chosen])
    assert subset(dataset, len(dataset), seed).digest == dataset.digest


def test_subsets_are_the_same_for_a_seed_and_uniform_over_seeds():
    dataset = dataset_of([20, 20])
    assert indices(subset(dataset, 7, 3)) == indices(subset(dataset, 7, 3))
    hits = np.zeros(40)
    for seed in range(400):
        hits[indices(subset(dataset, 10, seed))] += 1
    # Binomial(400, 1/4): 5 standard deviations.
    assert (np.abs(hits - 100) < 5 * np.sqrt(400 * 0.25 * 0.75)).all()


@pytest.mark.parametrize("n", [0, -1, 19, 2.5, True])
def test_bad_subset_sizes(n):
    with pytest.raises(InputError, match=f"n = {n}: expected an integer from 1 to 18"):
        subset(dataset_of([6, 6, 6]), n, 0)


@pytest.mark.parametrize("counts", [c for c in COUNTS if sum(c) > 1], ids=str)
def test_validation_is_carved_out_proportionally(counts):
    dataset = dataset_of(counts)
    for size in {1, len(dataset) // 2, len(dataset) - 1}:
        train, validation = split_validation(dataset, size, seed=5)
        assert (train.split, validation.split, len(validation)) == ("train", "validation", size)
        assert sorted(indices(train) + indices(validation)) == list(range(len(dataset)))
        quota = size * np.array(counts) / sum(counts)
        assert (np.abs(validation.labels.bincount(minlength=len(counts)).numpy() - quota) < 1).all()


def test_validation_is_another_draw_than_the_subset():
    dataset = dataset_of([50, 50])
    assert set(indices(subset(dataset, 20, 0))) != set(indices(split_validation(dataset, 20, 0)[1]))


@pytest.mark.parametrize("size", [0, -3, 18, 0.2])
def test_bad_validation_sizes(size):
    with pytest.raises(InputError, match=f"size = {size}: expected an integer from 1 to 17"):
        split_validation(dataset_of([6, 6, 6]), size, 0)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_label_noise_changes_exactly_its_share(fraction):
    dataset = dataset_of([60, 30, 10])
    noisy = with_label_noise(dataset, fraction, seed=1)
    assert int((noisy.labels != dataset.labels).sum()) == round(fraction * 100)
    assert noisy.images is dataset.images
    assert set(noisy.labels.tolist()) <= {0, 1, 2}


def test_label_noise_is_nested_in_the_fraction():
    dataset = dataset_of([60, 30, 10])
    little, much = (with_label_noise(dataset, fraction, seed=1).labels for fraction in (0.2, 0.7))
    changed = little != dataset.labels
    assert torch.equal(little[changed], much[changed])


def test_wrong_labels_are_uniform_over_the_others():
    dataset = dataset_of([3000, 1, 1, 1])
    noisy = with_label_noise(dataset, 1.0, seed=2).labels[dataset.labels == 0]
    counts = noisy.bincount(minlength=4).numpy()
    assert counts[0] == 0
    # Binomial(3000, 1/3): 5 standard deviations.
    assert (np.abs(counts[1:] - 1000) < 5 * np.sqrt(3000 * 2 / 9)).all()


def test_bad_label_noise():
    for fraction in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=f"fraction = {fraction}: expected a number from 0 to 1"):
            with_label_noise(dataset_of([2, 2]), fraction, 0)
    with pytest.raises(InputError, match="needs 2 classes"):
        with_label_noise(dataset_of([4]), 0.5, 0)


def test_shuffled_labels_are_a_permutation_that_says_nothing_of_the_images():
    dataset = dataset_of([60, 30, 10])
    once, again, other = (with_shuffled_labels(dataset, seed) for seed in (0, 0, 1))
    assert torch.equal(once.labels, again.labels) and not torch.equal(once.labels, other.labels)
    assert once.images is dataset.images
    hits = np.zeros(3)
    for seed in range(300):
        labels = with_shuffled_labels(dataset, seed).labels
        assert torch.equal(labels.bincount(), dataset.labels.bincount())
        hits += labels[dataset.labels == 2].bincount(minlength=3).numpy()
    # 3,000 draws without replacement from shares 0.6, 0.3, 0.1: narrower than binomial; 5 of its standard deviations.
    shares = np.array([0.6, 0.3, 0.1])
    assert (np.abs(hits - 3000 * shares) < 5 * np.sqrt(3000 * shares * (1 - shares))).all()


def test_other_purposes_draw_other_numbers():
    dataset = dataset_of([40, 40])
    order = np.argsort(uniform(0, "order", 0, np.arange(80), 1)[:, 0], kind="stable")
    assert not torch.equal(with_shuffled_labels(dataset, 0).labels, dataset.labels[torch.from_numpy(order)])
