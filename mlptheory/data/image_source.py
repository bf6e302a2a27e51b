"""Images that need not be in memory: read in parts, in the order in which they are wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import TypeAlias

import numpy as np
import torch
from tqdm.auto import tqdm

from mlptheory.base import InputError
from mlptheory.base.files import sha256
from mlptheory.data.mapped_images import ChannelSums, MappedImages

_CHUNK_BYTES = 2**26


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

    @property
    def identity(self) -> str | None:
        """A digest that no other images share, if one is known without reading them."""
        return None


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

    @property
    def identity(self) -> str | None:
        """A digest of the source's identity and the choice."""
        known = self.images.identity
        return None if known is None else sha256(f"{known}, of which {sha256(self.examples.numpy().tobytes())}")

    def others(self) -> Selection | None:
        """Return what is not chosen; None where it is nothing, or where something is chosen twice."""
        counts = torch.bincount(self.examples, minlength=len(self.images))
        others = torch.nonzero(counts == 0)[:, 0]
        return Selection(self.images, others) if len(others) and int(counts.max()) == 1 else None

    def batches(self, index_arrays: Iterable[np.ndarray], pinned: bool = False) -> Iterator[torch.Tensor]:
        """Yield the chosen images of each array of indices, as the source reads them best."""
        own = self.examples.numpy()
        return ordered(self.images, (own[examples] for examples in index_arrays), pinned)


Images: TypeAlias = torch.Tensor | ImageSource


def is_streamed(images: Images) -> bool:
    """Return whether images are read when they are asked for rather than kept in memory."""
    return isinstance(images, ImageSource | MappedImages)


def ordered(images: Images, index_arrays: Iterable[np.ndarray], pinned: bool = False) -> Iterator[torch.Tensor]:
    """Yield the images of each array of indices, as they are read best; `pinned` where they are copied to a GPU."""
    if isinstance(images, MappedImages | Selection):
        return images.batches(index_arrays, pinned)
    if isinstance(images, ImageSource):
        asked, wanted = tee(index_arrays)
        found = (
            _as_said(images, len(examples), part) for examples, part in zip(wanted, images.batches(asked), strict=True)
        )
    else:
        found = (images.index_select(0, torch.from_numpy(examples)) for examples in index_arrays)
    return (part.pin_memory() for part in found) if pinned else found


def _as_said(source: ImageSource, n: int, found: object) -> torch.Tensor:
    """Return what a source returned, if it is what it was asked for: compiled code takes its size and type on trust."""
    shape = (n, *source.shape[1:])
    if not isinstance(found, torch.Tensor) or found.dtype != torch.uint8 or tuple(found.shape) != shape:
        said = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(f"{type(source).__name__} returned {said}: expected a uint8 tensor of shape {shape}")
    return found


def chunks(images: Images, purpose: str) -> Iterator[torch.Tensor]:
    """Yield all images in parts of bounded size, in order, with a progress bar where it takes longer than a moment.

    Examples
    --------
    >>> [len(part) for part in chunks(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "looking")]
    [3]
    """
    at_once = max(1, _CHUNK_BYTES // math.prod(images.shape[1:]))
    parts = [slice(start, min(start + at_once, len(images))) for start in range(0, len(images), at_once)]
    if is_streamed(images):
        found = ordered(images, (np.arange(part.start, part.stop) for part in parts))
    else:
        found = (images[part] for part in parts)
    yield from tqdm(found, desc=purpose, total=len(parts), unit="part", delay=2.0, dynamic_ncols=True, leave=False)


def gathered(images: Images) -> torch.Tensor:
    """Return all images as one tensor in memory."""
    whole, filled = torch.empty(tuple(images.shape), dtype=torch.uint8), 0
    for part in chunks(images, "reading images"):
        whole[filled : filled + len(part)] = part
        filled += len(part)
    return whole
