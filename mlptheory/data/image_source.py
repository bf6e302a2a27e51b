"""Images that need not be in memory: read in parts, in the order in which they are wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Self, TypeAlias

import numpy as np
import torch
from tqdm.auto import tqdm

_CHUNK_BYTES = 2**26

ChannelSums: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Sums of the pixels and of their squares, over all images, one of each for every channel."""


class ImageSource:
    """Images of bytes that are read when they are asked for; subclasses say how.

    A subclass sets `shape` and has ``__getitem__``; `batches` where there is a better way than one request after
    another, and `channel_sums` where they are known without reading.

    Attributes
    ----------
    shape : tuple of int
        (N, C, H, W).
    """

    shape: tuple[int, int, int, int]
    dtype = torch.uint8
    ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, examples: slice | torch.Tensor) -> torch.Tensor:
        """Return some images, uint8 of shape (n, C, H, W): a range without a step, or int64 indices in any order."""
        raise NotImplementedError(f"{type(self).__name__} reads no images")

    def batches(self, index_arrays: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the images of each array of indices; all of it happens in the thread that asks for the next."""
        for examples in index_arrays:
            yield self[torch.from_numpy(examples)]

    def channel_sums(self) -> ChannelSums | None:
        """Return the sums over all pixels if they are known without reading the images."""
        return None


class MappedImages(torch.Tensor):
    """A tensor over a file of bytes, of which nothing is in memory before it is looked at.

    It is used as any tensor: what is computed of it is an ordinary tensor, and a part of it a view of the file.
    Writing to it changes the memory of this process and never the file.
    """

    # Results are to be plain tensors, at no cost per operation.
    __torch_function__ = torch._C._disabled_torch_function_impl
    _sums: ChannelSums | None

    @classmethod
    def over(cls, buffer: object, shape: tuple[int, int, int, int], sums: ChannelSums | None = None) -> Self:
        """Return the images that lie in a writable buffer, in C order, and what is known of their sums."""
        images = torch.frombuffer(buffer, dtype=torch.uint8).view(shape)
        mapped = torch.Tensor._make_subclass(cls, images)
        mapped._sums = sums
        return mapped

    def batches(self, index_arrays: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the images of each array of indices, copied."""
        for examples in index_arrays:
            yield self.index_select(0, torch.from_numpy(examples))

    def channel_sums(self) -> ChannelSums | None:
        """Return the sums that the file came with."""
        return self._sums


class Selection(ImageSource):
    """Some images of a source, in an order of their own, read when they are asked for.

    Parameters
    ----------
    images : ImageSource or MappedImages
        To choose from.
    examples : Tensor of int64, shape (n,)
        Which, repeats allowed.
    """

    def __init__(self, images: ImageSource | MappedImages, examples: torch.Tensor) -> None:
        if isinstance(images, Selection):
            images, examples = images.images, images.examples[examples]
        self.images, self.examples = images, examples
        self.shape = (len(examples), *images.shape[1:])

    def __getitem__(self, examples: slice | torch.Tensor) -> torch.Tensor:
        """Return some of the chosen images."""
        return self.images[self.examples[examples]]

    def batches(self, index_arrays: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the chosen images of each array of indices, as the source reads them best."""
        own = self.examples.numpy()
        return self.images.batches(own[examples] for examples in index_arrays)


Images: TypeAlias = torch.Tensor | ImageSource


def is_streamed(images: Images) -> bool:
    """Return whether images are read when they are asked for rather than kept in memory."""
    return isinstance(images, ImageSource | MappedImages)


def chunks(images: Images, purpose: str) -> Iterator[torch.Tensor]:
    """Yield all images in parts of bounded size, in order, with a progress bar where it takes longer than a moment.

    Examples
    --------
    >>> [len(part) for part in chunks(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "looking")]
    [3]
    """
    at_once = max(1, _CHUNK_BYTES // math.prod(images.shape[1:]))
    starts = range(0, len(images), at_once)
    for start in tqdm(starts, desc=purpose, unit="part", delay=2.0, dynamic_ncols=True, leave=False):
        yield images[start : start + at_once]
