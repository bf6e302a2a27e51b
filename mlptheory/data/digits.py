"""The embedded default dataset: scikit-learn's handwritten digits, and its two halves by class."""

from __future__ import annotations

import dataclasses
import os

import torch

from mlptheory.data.dataset import Dataset
from mlptheory.data.splits import split_validation

_TEST_EXAMPLES = 600
_GRAY_STEP = 15  # 16 gray levels of the source x 15 = 240: exactly linear, lossless and nearly the range of a byte


def load_digits(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the 1,797 handwritten digits (8x8, 10 classes) that scikit-learn embeds.

    The source has no official split, so one is fixed here: 600 test images, stratified by class, the same for
    every seed. Pixels are the source's 0 to 16, times 15. The source is the test part of the UCI set of
    Alpaydin & Kaynak (1998), whose 13 writers are on both sides of the split.

    Parameters
    ----------
    split : {"train", "test"}
        1,197 or 600 images.
    root : path-like, optional
        Not looked at: nothing is read from outside.

    Returns
    -------
    Dataset
        In the order of the source.

    Examples
    --------
    >>> load_digits("test")
    Dataset('digits', 'test', 600 images of shape (1, 8, 8), 10 classes)
    """
    from sklearn import datasets

    source = datasets.load_digits()
    everything = Dataset(
        images=torch.from_numpy(source.images).to(torch.uint8).unsqueeze(1) * _GRAY_STEP,
        labels=torch.from_numpy(source.target).to(torch.int64),
        classes=tuple(str(digit) for digit in source.target_names),
        name="digits",
        split="train",
    )
    train, held_out = split_validation(everything, _TEST_EXAMPLES, seed=0)
    return train if split == "train" else held_out.select(torch.arange(len(held_out)), split="test")


def load_lower_digits(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the images of `load_digits` that show 0 to 4, as labels 0 to 4.

    With those of `load_upper_digits` they are two tasks on images of one kind that share no class and no image: a
    source and a target of transfer. Writers are on both sides.

    Parameters
    ----------
    split : {"train", "test"}
        Of `load_digits`; no image changes sides.
    root : path-like, optional
        Not looked at.

    Returns
    -------
    Dataset
        In the order of `load_digits`.

    Examples
    --------
    >>> load_lower_digits("train").classes
    ('0', '1', '2', '3', '4')
    """
    return _some_classes(load_digits(split, root), "digits-0-4", range(5))


def load_upper_digits(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the images of `load_digits` that show 5 to 9, as labels 0 to 4; see `load_lower_digits`.

    Parameters
    ----------
    split : {"train", "test"}
        Of `load_digits`; no image changes sides.
    root : path-like, optional
        Not looked at.

    Returns
    -------
    Dataset
        In the order of `load_digits`.

    Examples
    --------
    >>> load_upper_digits("train").classes
    ('5', '6', '7', '8', '9')
    """
    return _some_classes(load_digits(split, root), "digits-5-9", range(5, 10))


def _some_classes(dataset: Dataset, name: str, wanted: range) -> Dataset:
    """Return the examples of successive classes, labeled from 0."""
    found = torch.isin(dataset.labels, torch.tensor(wanted)).nonzero()[:, 0]
    part = dataset.select(found)
    classes = tuple(dataset.classes[label] for label in wanted)
    return dataclasses.replace(part, labels=part.labels - wanted.start, classes=classes, name=name)
