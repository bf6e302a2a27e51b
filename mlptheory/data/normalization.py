"""Centering and scaling of the channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mlptheory.base import invalid
from mlptheory.data.image_source import Images, Selection, chunks, is_streamed
from mlptheory.data.mapped_images import ChannelSums

if TYPE_CHECKING:
    from mlptheory.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Map each channel x, in [0, 1], to (x - mean) / std.

    Attributes
    ----------
    mean : tuple of float
        One per channel.
    std : tuple of float
        One per channel, positive.

    Examples
    --------
    >>> Normalization(mean=(0.5,), std=(0.25,)).std
    (0.25,)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if not self.mean or not all(math.isfinite(value) for value in self.mean):
            raise invalid("mean", self.mean, "one finite number per channel")
        if len(self.std) != len(self.mean) or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise invalid("std", self.std, f"{len(self.mean)} positive numbers, one per channel as in mean")


def channel_statistics(dataset: Dataset) -> Normalization:
    r"""Measure mean and standard deviation of each channel, over all pixels of all examples, in [0, 1].

    With pixels :math:`u` from 0 to 255 and :math:`M = N H W` of them per channel, the mean is
    :math:`\bar u = \sum u / (255 M)` and the variance :math:`(M \sum u^2 - (\sum u)^2) / (255 M)^2`, the
    population's. The sums are of integers and exact.

    Parameters
    ----------
    dataset : Dataset
        The training images, as a rule.

    Returns
    -------
    Normalization
        A channel without variance gets std 1, so that it is centered and left at 0.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> print("{:.3f}".format(channel_statistics(load("digits", "train")).mean[0]))
    0.286
    """
    totals, squares = channel_sums(dataset.images)
    size = math.prod(dataset.images.shape) // len(totals)
    means, stds = [], []
    for total, square in zip(totals, squares, strict=True):
        scatter = size * square - total * total
        means.append(total / (255 * size))
        stds.append(math.sqrt(scatter) / (255 * size) if scatter else 1.0)
    return Normalization(mean=tuple(means), std=tuple(stds))


def channel_sums(images: Images) -> ChannelSums:
    """Return the sums over all pixels of each channel and of their squares, read only where they are not known.

    Examples
    --------
    >>> import torch
    >>> channel_sums(torch.full((2, 1, 2, 2), 3, dtype=torch.uint8))
    ((24,), (72,))
    """
    known = images.channel_sums() if is_streamed(images) else None
    if known is None and isinstance(images, Selection):
        known = _sums_by_others(images)
    return summed_channels(images) if known is None else known


def _sums_by_others(chosen: Selection) -> ChannelSums | None:
    """Return the sums of a choice by those of its source and of what is not chosen, where that is fewer images."""
    of_all = chosen.images.channel_sums()
    if of_all is None or 2 * len(chosen) <= len(chosen.images):
        return None
    others = chosen.others()
    if others is None:
        return None
    return tuple(
        tuple(whole - part for whole, part in zip(*pair, strict=True))
        for pair in zip(of_all, summed_channels(others), strict=True)
    )


def summed_channels(images: Images) -> ChannelSums:
    """Sum the pixels of each channel and their squares, as integers, reading all images part by part."""
    counts = sum(
        torch.stack([part[:, channel].flatten().bincount(minlength=256) for channel in range(images.shape[1])])
        for part in chunks(images, "channel statistics")
    ).tolist()
    return (
        tuple(sum(value * count for value, count in enumerate(own)) for own in counts),
        tuple(sum(value * value * count for value, count in enumerate(own)) for own in counts),
    )
