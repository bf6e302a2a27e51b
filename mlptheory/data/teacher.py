"""A problem whose answer is known: coin-flip images, labeled by a fixed logistic teacher."""

from __future__ import annotations

import os

import numpy as np
import torch

from mlptheory.base import InputError
from mlptheory.base.random import uniform
from mlptheory.data.dataset import Dataset

SIDE = 4
_EXAMPLES = {"train": 2**16, "test": 2**13}
_PIXELS = SIDE * SIDE
# In sixteenths, so that logits are exact in binary and no platform rounds a label; the squares sum to 1.
_WEIGHTS = np.array([6, -1, 3, 5, -2, 4, -6, 1, 5, -3, 1, -6, 2, 6, -4, 1]) / 16


def load_teacher(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load images of 4x4 pixels, each 0 or 255 with probability 1/2, with labels drawn from `teacher_probabilities`.

    All pixels and labels are independent draws from keyed generators with a fixed key, the same on every platform.
    Channel normalization takes the pixels to about ±1.

    Parameters
    ----------
    split : {"train", "test"}
        65,536 or 8,192 images.
    root : path-like, optional
        Not looked at: nothing is read from outside.

    Returns
    -------
    Dataset
        Of the classes "0" and "1", equally frequent in law.

    Examples
    --------
    >>> load_teacher("test")
    Dataset('teacher', 'test', 8192 images of shape (1, 4, 4), 2 classes)
    """
    draws = uniform(0, f"teacher {split}", 0, np.arange(_EXAMPLES[split]), _PIXELS + 1)
    pixels = np.where(draws[:, :_PIXELS] < 0.5, 0, 255).astype(np.uint8)
    images = torch.from_numpy(pixels.reshape(-1, 1, SIDE, SIDE))
    labels = torch.from_numpy((draws[:, _PIXELS] < teacher_probabilities(images)[:, 1]).astype(np.int64))
    return Dataset(images=images, labels=labels, classes=("0", "1"), name="teacher", split=split)


def teacher_probabilities(images: torch.Tensor) -> np.ndarray:
    r"""Return the law of the label of each image of the dataset "teacher".

    .. math:: p^*(1 \mid x) = \frac{1}{1 + e^{-w \cdot x}}, \qquad x = u / 127.5 - 1 \in [-1, 1]^{16}

    for pixels :math:`u`, with fixed weights of norm 1 and no bias. On ±1 inputs the logit has mean 0 and variance 1,
    and no classifier is right more often than 67.7 % of the time. A softmax of an affine function of the pixels
    represents :math:`p^*` exactly.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, 1, 4, 4)
        Pixels from 0 to 255, before any normalization.

    Returns
    -------
    ndarray of float64, shape (N, 2)
        Probabilities of the classes 0 and 1.

    Raises
    ------
    InputError
        If shape or dtype is another.

    Examples
    --------
    >>> black, half = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    >>> half[0, 2:] = 255
    >>> teacher_probabilities(torch.stack([black, half])).round(3)
    array([[0.679, 0.321],
           [0.622, 0.378]])
    """
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != (1, SIDE, SIDE):
        raise InputError(
            f"images = {images.dtype} of shape {tuple(images.shape)}: expected uint8 of shape (N, 1, {SIDE}, {SIDE})"
        )
    logits = (images.flatten(1).cpu().numpy() / 127.5 - 1) @ _WEIGHTS
    return 1 / (1 + np.exp(np.stack([logits, -logits], axis=1)))
