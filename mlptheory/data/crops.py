"""Random resized crops: which window, for each example of each epoch."""

from __future__ import annotations

import math

import numpy as np

from mlptheory.base.random import uniform

_ATTEMPTS = 10


def random_resized_crop_boxes(
    seed: int,
    epoch: int,
    examples: np.ndarray,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> np.ndarray:
    """Draw the windows of random resized crops by the law of torchvision's ``RandomResizedCrop``.

    An attempt draws an area, uniform in `scale` times the image's, and a ratio of width to height, log-uniform in
    `ratio`; it succeeds if the rounded height and width, both at least 1, fit into the image, and the window's
    place is then uniform. After ten failures comes the central window: the whole image, cut down to the nearest
    allowed ratio.

    Parameters
    ----------
    seed, epoch : int
        What the draws belong to.
    examples : ndarray of int, shape (B,)
        Indices of the examples: each one's window depends on (seed, epoch, example) and nothing else.
    image_size : tuple (H, W)
        In pixels.
    scale, ratio : tuple of two floats
        Lowest and highest.

    Returns
    -------
    ndarray of int64, shape (B, 4)
        Top, left, height and width, in pixels.

    Examples
    --------
    >>> random_resized_crop_boxes(0, 0, np.arange(2), (8, 8), scale=(1.0, 1.0), ratio=(1.0, 1.0))
    array([[0, 0, 8, 8],
           [0, 0, 8, 8]])
    """
    # The first four numbers are the place, the first area and the first ratio; nearly all examples need no more.
    draws = uniform(seed, "crop", epoch, examples, 4)
    sizes, fits = _sizes(draws[:, 2:3], draws[:, 3:4], image_size, scale, ratio)
    sizes, found = sizes[:, 0], fits[:, 0]
    if not found.all():
        failed = np.flatnonzero(~found)
        later = uniform(seed, "crop", epoch, np.asarray(examples)[failed], 2 * (_ATTEMPTS - 1), first=4)
        more, more_fits = _sizes(later[:, 0::2], later[:, 1::2], image_size, scale, ratio)
        first = more_fits.argmax(axis=1)
        sizes[failed] = more[np.arange(len(failed)), first]
        found[failed] = more_fits.any(axis=1)
    room = np.array(image_size) - sizes
    corners = np.floor(draws[:, :2] * (room + 1)).astype(np.int64)
    boxes = np.concatenate([corners, sizes], axis=1)
    boxes[~found] = _central_box(image_size, ratio)
    return boxes


def _sizes(
    area_draws: np.ndarray,
    ratio_draws: np.ndarray,
    image_size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return (..., 2) heights and widths and whether each fits."""
    height, width = image_size
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * area_draws)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = np.exp(low + (high - low) * ratio_draws)
    sizes = np.rint(np.stack([np.sqrt(areas / ratios), np.sqrt(areas * ratios)], axis=-1)).astype(np.int64)
    fits = ((sizes >= 1) & (sizes <= np.array(image_size))).all(axis=-1)
    return sizes, fits


def _central_box(image_size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    height, width = image_size
    own = width / height
    if own < ratio[0]:
        box_height, box_width = round(width / ratio[0]), width
    elif own > ratio[1]:
        box_height, box_width = height, round(height * ratio[1])
    else:
        box_height, box_width = height, width
    box_height, box_width = max(box_height, 1), max(box_width, 1)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
