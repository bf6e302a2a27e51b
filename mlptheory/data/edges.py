"""Textures with sharp edges, and Gaussian ones of the same covariance: a problem whose answer is known."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.special import erf, ndtri

from mlptheory.base.configuration import require_number
from mlptheory.base.random import uniform
from mlptheory.data.dataset import Dataset

Field = Callable[[np.ndarray], np.ndarray]
"""From white noise (N, side, side) to images, before they become gray levels."""

SIDE = 8
GAIN = 10.0
CORRELATION_LENGTHS = {"short": 0.7, "long": 1.5}
"""In pixels, by class."""
_EXAMPLES = {"train": 2**15, "test": 2**12}
_BOUND = GAIN**2 / (1 + GAIN**2)
_SCALE = math.sqrt(2 / math.pi * math.asin(_BOUND))
GRAYS_PER_SD = 33.5 * _SCALE
"""What is as black or white as it can be falls on gray levels, 94 and 161; clipping begins 3.99 SD from the mean."""
_REACH = 7
"""Correlation lengths from which the field is summed; what is further away would add less than e^-49."""


def load_edges(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Load textures of 8x8 pixels on a torus, nearly black and white, of two classes of correlation lengths.

    .. math:: x = \operatorname{erf}(g z / \sqrt 2) / Z(g), \qquad
              Z(g)^2 = \tfrac{2}{\pi} \arcsin \tfrac{g^2}{1 + g^2}, \qquad g = 10,

    with z a Gaussian field of mean 0 and covariance :math:`e^{-|r|^2/\xi^2}`, summed over all ways around the torus and
    scaled to variance 1; :math:`\xi` is 0.7 pixels for the class "short" and 1.5 for "long". Then x has variance 1, and
    what is loaded is :math:`127.5 + 33.5\,Z(g)\,x`, rounded. The model is that of Ingrosso & Goldt (2022), whose fully
    connected nets grow local filters on it, and not on Gaussian inputs of the same covariance; gain, lengths and side
    are our own. Every second image is of the second class. All draws are from keyed generators with a fixed key.

    Parameters
    ----------
    split : {"train", "test"}
        32,768 or 4,096 images.
    root : path-like, optional
        Not looked at: nothing is read from outside.

    Returns
    -------
    Dataset
        Of the classes "short" and "long", equally many.

    Examples
    --------
    >>> load_edges("test")
    Dataset('edges', 'test', 4096 images of shape (1, 8, 8), 2 classes)
    """
    return _dataset("edges", split, {name: _sharpened(length) for name, length in CORRELATION_LENGTHS.items()})


def load_edges_gaussian(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Gaussian textures of the mean and, class by class, of the covariance of `load_edges`.

    Images are rounded as there, and clipped where they leave the gray levels, which less than one pixel in 10,000 does.

    Parameters
    ----------
    split : {"train", "test"}
        32,768 or 4,096 images.
    root : path-like, optional
        Not looked at: nothing is read from outside.

    Returns
    -------
    Dataset
        Of the classes "short" and "long", equally many.

    Examples
    --------
    >>> load_edges_gaussian("test")
    Dataset('edges-gaussian', 'test', 4096 images of shape (1, 8, 8), 2 classes)
    """
    of = {name: _gaussian(edges_covariance(length)) for name, length in CORRELATION_LENGTHS.items()}
    return _dataset("edges-gaussian", split, of)


def edges_covariance(length: float) -> np.ndarray:
    r"""Return the covariance of two pixels of "edges", and of "edges-gaussian", by how far apart they are.

    .. math:: C(r) = \arcsin\Big(\frac{g^2}{1 + g^2} K(r)\Big) \Big/ \arcsin \frac{g^2}{1 + g^2}

    with K the covariance of the field z that is made sharp, and g = 10: the closed form of :math:`E[x_0 x_r]` for
    :math:`x = \operatorname{erf}(g z/\sqrt 2)/Z(g)`, of values before they become gray levels.

    Parameters
    ----------
    length : float
        Correlation length of z, in pixels.

    Returns
    -------
    ndarray of float64, shape (8, 8)
        At each shift (rows, columns) around the torus; 1 at no shift.

    Raises
    ------
    InputError
        If the length is not positive.

    Examples
    --------
    >>> edges_covariance(1.5)[0, :4].round(3)
    array([1.   , 0.481, 0.118, 0.013])
    """
    require_number("length", length, 0, low_open=True)
    return np.arcsin(_BOUND * _covariance(length)) / math.asin(_BOUND)


def _covariance(length: float) -> np.ndarray:
    """Return the covariance of the field z at each shift around the torus."""
    shifts = np.arange(SIDE)
    turns = max(3, math.ceil(_REACH * length / SIDE) + 1)
    along = sum(np.exp(-(((shifts + SIDE * turn) / length) ** 2)) for turn in range(-turns, turns + 1))
    plane = np.outer(along, along)
    return plane / plane[0, 0]


def _sharpened(length: float) -> Field:
    z = _gaussian(_covariance(length))
    return lambda white: erf(GAIN * z(white) / math.sqrt(2)) / _SCALE


def _gaussian(covariance: np.ndarray) -> Field:
    """Return the map from white noise to fields of a covariance that is the same everywhere on the torus."""
    # Not below zero but for rounding, as both covariances are those of fields.
    root = np.sqrt(np.fft.fft2(covariance).real.clip(min=0))
    return lambda white: np.fft.ifft2(np.fft.fft2(white) * root).real


def _dataset(name: str, split: str, maps: Mapping[str, Field]) -> Dataset:
    examples = np.arange(_EXAMPLES[split])
    white = ndtri(uniform(0, f"{name} {split}", 0, examples, SIDE**2)).reshape(-1, SIDE, SIDE)
    labels = examples % len(maps)
    values = np.empty_like(white)
    for label, field in enumerate(maps.values()):
        values[labels == label] = field(white[labels == label])
    grays = np.rint(127.5 + GRAYS_PER_SD * values).clip(0, 255).astype(np.uint8)
    return Dataset(
        images=torch.from_numpy(grays[:, None]),
        labels=torch.from_numpy(labels),
        classes=tuple(maps),
        name=name,
        split=split,
    )
