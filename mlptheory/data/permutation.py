"""A fixed shuffle of the pixels: what it costs tells whether a learner uses their geometry."""

from __future__ import annotations

import math

import numpy as np
import torch

from mlptheory.base.random import uniform


def pixel_permutation(seed: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Draw a uniformly random permutation of all numbers of an image, channels included.

    Parameters
    ----------
    seed : int
        Which permutation; separate from the seed of a run.
    shape : tuple (C, H, W)
        Of the image.

    Returns
    -------
    Tensor of int64, shape (C * H * W,)
        Entry i of the permuted image is entry ``permutation[i]`` of the image, both flattened in the order (C, H, W).

    Examples
    --------
    >>> pixel_permutation(0, (1, 2, 2)).sort().values
    tensor([0, 1, 2, 3])
    """
    size = math.prod(shape)
    # Two words each: no ties in 64 bits.
    draws = uniform(seed, "pixel permutation", 0, np.arange(size), 2)
    return torch.from_numpy(np.lexsort((draws[:, 1], draws[:, 0])))
