import pytest
import torch
from sklearn import datasets as sklearn_datasets

from mlptheory.data import load


def test_every_digit_of_the_source_is_on_one_side_and_lossless():
    train, test = load("digits", "train"), load("digits", "test")
    source = sklearn_datasets.load_digits()
    ours = torch.cat([train.images, test.images]).flatten(1)
    assert torch.equal(ours % 15, torch.zeros_like(ours))
    labels = torch.cat([train.labels, test.labels]).tolist()
    found = sorted([*(row // 15).tolist(), label] for row, label in zip(ours, labels, strict=True))
    assert found == sorted(
        [*row.astype(int).tolist(), int(label)]
        for row, label in zip(source.images.reshape(-1, 64), source.target, strict=True)
    )
    assert (len(train), len(test), train.image_shape) == (1197, 600, (1, 8, 8))


def test_the_split_is_stratified_and_fixed():
    train, test = load("digits", "train"), load("digits", "test")
    share = torch.cat([train.labels, test.labels]).bincount() * 600 / 1797
    assert bool(((test.labels.bincount() - share).abs() < 1).all())
    # The digests are part of every record's: a change here makes all stored results void.
    assert (train.digest[:16], test.digest[:16]) == ("a4190c0808da8556", "636646e767b04a05")
    assert (train.split, test.split) == ("train", "test")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_halves_are_the_digits_by_class_and_nothing_else(split):
    whole = load("digits", split)
    for name, first in (("digits-0-4", 0), ("digits-5-9", 5)):
        half = load(name, split)
        expected = [
            (image.tolist(), int(label) - first)
            for image, label in zip(whole.images, whole.labels, strict=True)
            if first <= int(label) < first + 5
        ]
        assert list(zip(half.images.tolist(), half.labels.tolist(), strict=True)) == expected
        assert half.classes == tuple(str(first + label) for label in range(5))
        assert (half.name, half.split) == (name, split)
    sizes = [len(load(name, split)) for name in ("digits-0-4", "digits-5-9")]
    assert sizes == {"train": [600, 597], "test": [301, 299]}[split]
