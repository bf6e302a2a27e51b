"""Parts of a dataset: nested subsets and validation sets, proportional per class, and label noise."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
import torch

from mlptheory.base import InputError, invalid
from mlptheory.base.random import uniform
from mlptheory.data.dataset import Dataset


def subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    r"""Choose `n` examples at random, proportionally per class, nested in `n`.

    A class with share :math:`p_c` gets between :math:`\lfloor n p_c \rfloor` and :math:`\lceil n p_c \rceil`
    examples. With the same seed, a smaller subset lies inside every larger one. Both hold for every `n` at once:
    the k-th example of class c is released at :math:`\lfloor (k-1)/p_c \rfloor + 1` and due at
    :math:`\lceil k/p_c \rceil`, and the earliest due goes first (Tijdeman 1980, "The chairman assignment problem").

    Parameters
    ----------
    dataset : Dataset
        To choose from.
    n : int
        Number of examples, from 1 to ``len(dataset)``.
    seed : int
        Which subset; separate from the seed of a run.

    Returns
    -------
    Dataset
        In the order of `dataset`, so that all of it is itself.

    Raises
    ------
    InputError
        If `n` is out of range.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> subset(load("digits", "train"), 100, seed=0).labels.bincount()
    tensor([10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= len(dataset):
        raise invalid("n", n, f"an integer from 1 to {len(dataset)}, the number of examples")
    chosen = _proportional(dataset.labels, n, seed, "subset")
    return dataset.select(torch.from_numpy(np.sort(chosen)))


def split_validation(dataset: Dataset, size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Carve a validation set out of the training images, proportionally per class within one example.

    Parameters
    ----------
    dataset : Dataset
        The training images.
    size : int
        Examples of the validation set, from 1 to ``len(dataset) - 1``.
    seed : int
        Which split; separate from the seed of a run.

    Returns
    -------
    train, validation : Dataset
        Disjoint, together all of `dataset`, each in its order.

    Raises
    ------
    InputError
        If `size` is out of range.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> train, validation = split_validation(load("digits", "train"), 197, seed=0)
    >>> len(train), validation
    (1000, Dataset('digits', 'validation', 197 images of shape (1, 8, 8), 10 classes))
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size < len(dataset):
        raise invalid("size", size, f"an integer from 1 to {len(dataset) - 1}, fewer than the examples there are")
    held_out = np.zeros(len(dataset), dtype=bool)
    held_out[_proportional(dataset.labels, size, seed, "validation")] = True
    mask = torch.from_numpy(held_out)
    return dataset.select(torch.nonzero(~mask)[:, 0]), dataset.select(torch.nonzero(mask)[:, 0], split="validation")


def with_label_noise(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Give a share of the examples a uniformly random label that is not theirs.

    Exactly ``round(fraction * N)`` labels change. With the same seed, the examples changed at a smaller fraction
    are among those changed at a larger one, to the same labels.

    Parameters
    ----------
    dataset : Dataset
        With at least two classes.
    fraction : float
        From 0 to 1.
    seed : int
        Which examples and labels; a recipe gives its run's seed.

    Returns
    -------
    Dataset
        Sharing the images.

    Raises
    ------
    InputError
        If `fraction` is out of range, or there is no other label to give.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> clean = load("digits", "train")
    >>> noisy = with_label_noise(clean, 0.25, seed=0)
    >>> int((noisy.labels != clean.labels).sum())
    299
    """
    if not 0 <= fraction <= 1:
        raise invalid("fraction", fraction, "a number from 0 to 1")
    if dataset.num_classes < 2:
        raise InputError(f"fraction = {fraction!r}: label noise needs 2 classes, {dataset.name!r} has 1")
    draws = uniform(seed, "label noise", 0, np.arange(len(dataset)), 2)
    changed = np.argsort(draws[:, 0], kind="stable")[: round(fraction * len(dataset))]
    labels = dataset.labels.numpy().copy()
    others = dataset.num_classes - 1
    labels[changed] = (labels[changed] + 1 + np.floor(draws[changed, 1] * others).astype(np.int64)) % (others + 1)
    return dataclasses.replace(dataset, labels=torch.from_numpy(labels))


def with_shuffled_labels(dataset: Dataset, seed: int) -> Dataset:
    """Permute the labels among the examples: each class keeps its number, and no label has to do with its image.

    Parameters
    ----------
    dataset : Dataset
        Its labels.
    seed : int
        Which permutation; a recipe gives its run's seed.

    Returns
    -------
    Dataset
        Sharing the images.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> clean = load("digits", "train")
    >>> shuffled = with_shuffled_labels(clean, seed=0)
    >>> bool((shuffled.labels.bincount() == clean.labels.bincount()).all())
    True
    """
    order = np.argsort(uniform(seed, "label shuffle", 0, np.arange(len(dataset)), 1)[:, 0], kind="stable")
    return dataclasses.replace(dataset, labels=dataset.labels[torch.from_numpy(order)])


def _proportional(labels: torch.Tensor, n: int, seed: int, purpose: str) -> np.ndarray:
    """Return indices of the first `n` examples of a random order in which every prefix is proportional."""
    total = len(labels)
    shuffled = np.argsort(uniform(seed, purpose, 0, np.arange(total), 1)[:, 0], kind="stable")
    # Each class's examples, in the order of the shuffle; ties between classes are broken by which one it met first.
    by_label = np.argsort(labels.numpy()[shuffled], kind="stable")
    ends = np.cumsum(np.bincount(labels.numpy()))[:-1]
    queues = [
        shuffled[places] for places in sorted(filter(len, np.split(by_label, ends)), key=lambda places: places[0])
    ]
    taken = [0] * len(queues)
    waiting = [(1, index) for index in range(len(queues))]
    due: list[tuple[int, int]] = []
    chosen = np.empty(n, dtype=np.int64)
    for position in range(1, n + 1):
        while waiting and waiting[0][0] <= position:
            _, index = heapq.heappop(waiting)
            deadline = -(-(taken[index] + 1) * total // len(queues[index]))
            heapq.heappush(due, (deadline, index))
        _, index = heapq.heappop(due)
        chosen[position - 1] = queues[index][taken[index]]
        taken[index] += 1
        if taken[index] < len(queues[index]):
            heapq.heappush(waiting, (taken[index] * total // len(queues[index]) + 1, index))
    return chosen
