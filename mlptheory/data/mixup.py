"""MixUp (Zhang et al. 2018): convex combinations of two examples and of their losses."""

from __future__ import annotations

import numpy as np
import torch

from mlptheory.base import invalid, unknown_name
from mlptheory.base.random import generator


def draw_mixup(
    seed: int, epoch: int, batch: int, examples: np.ndarray, total: int, alpha: float, per: str = "batch"
) -> np.ndarray:
    r"""Draw MixUp's weight :math:`\lambda \sim \mathrm{Beta}(a, a)` for each example of one logical batch.

    An example becomes :math:`\lambda x + (1 - \lambda) x'`, and its loss
    :math:`\lambda \ell(y) + (1 - \lambda) \ell(y')`, where x' is the previous example of the batch and the last one
    for the first (the rule of FFCV and of the authors' code).

    Parameters
    ----------
    seed, epoch, batch : int
        What the draws belong to; the batch is the one that the optimizer sees, before any cut into parts.
    examples : ndarray of int, shape (B,)
        Indices of the batch's examples.
    total : int
        Examples of the whole dataset.
    alpha : float
        The parameter a, positive.
    per : {"batch", "example"}
        One weight for the batch, keyed by (seed, epoch, batch); or one for each example, keyed by (seed, epoch,
        example), which does not depend on the batch size.

    Returns
    -------
    ndarray of float64, shape (B,)
        In [0, 1].

    Raises
    ------
    InputError
        If `alpha` is not positive or `per` is unknown.

    Examples
    --------
    >>> weights = draw_mixup(0, 0, 0, np.arange(3), total=10, alpha=0.8)
    >>> bool((weights == weights[0]).all())
    True
    """
    if not 0 < alpha < np.inf:
        raise invalid("alpha", alpha, "a positive number")
    if per == "batch":
        return np.full(len(examples), generator(seed, "mixup", epoch, batch).beta(alpha, alpha))
    if per == "example":
        return generator(seed, "mixup", epoch).beta(alpha, alpha, size=total)[examples]
    raise unknown_name("per", per, ("batch", "example"))


def mixed(images: torch.Tensor, weights: torch.Tensor, members: int = 1) -> torch.Tensor:
    """Mix each image with the one before it, the first of each member with the member's last.

    Parameters
    ----------
    images : Tensor, shape (M·B, C, H, W)
        Those of M members, one after another's.
    weights : Tensor, shape (M·B,)
        Of the image itself; the one before it has the rest.
    members : int
        M.

    Returns
    -------
    Tensor, shape (M·B, C, H, W)
    """
    others = images.unflatten(0, (members, -1)).roll(1, dims=1).flatten(0, 1)
    return torch.lerp(others, images, weights[:, None, None, None])
