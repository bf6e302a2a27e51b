"""Images in a file of bytes: a tensor to look at, and reads of one's own to stream by."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import torch

from mlptheory.base import DamagedFileError
from mlptheory.data.readahead import announced

ChannelSums: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Sums of the pixels and of their squares, over all images, one of each for every channel."""

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
# What the system takes in one call: pieces, and bytes.
_MOST_PIECES, _MOST_BYTES = 1024, 2**30


class MappedImages(torch.Tensor):
    """A tensor over a file of bytes, of which nothing is in memory before it is looked at.

    It is used as any tensor: what is computed of it is an ordinary tensor, and a part of it a view of the file.
    Writing to it changes the memory of this process and never the file.

    `batches` does not go through the map but reads the file: what passes through a map counts as memory of this
    process for as long as the system keeps it, and a disk's error on the way ends the process.
    """

    # Results are to be plain tensors, at no cost per operation.
    __torch_function__ = torch._C._disabled_torch_function_impl
    _sums: ChannelSums | None
    _file: _File
    identity: str | None
    """A digest that no other images share, if the file came with one."""

    @classmethod
    def of_file(
        cls,
        path: Path,
        shape: tuple[int, int, int, int],
        sums: ChannelSums | None = None,
        identity: str | None = None,
    ) -> Self:
        """Return the images that a file holds, in C order, with what is known of their sums and a digest of them.

        Raises
        ------
        DamagedFileError
            If the file is of another size.
        OSError
            If it cannot be opened.
        """
        file = _File(path)
        if file.size != math.prod(shape):
            raise DamagedFileError(f"{path}: expected {math.prod(shape)} bytes, found {file.size}")
        images = torch.frombuffer(_mapped(file.handle), dtype=torch.uint8).view(shape)
        mapped = images.as_subclass(cls)
        mapped._file, mapped._sums, mapped.identity = file, sums, identity
        return mapped

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        """Open the file again where a copy is asked for: in this process, or by another one."""
        return type(self).of_file, (self._file.path.absolute(), tuple(self.shape), self._sums, self.identity)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return type(self).of_file(self._file.path, tuple(self.shape), self._sums, self.identity)

    def batches(self, index_arrays: Iterable[np.ndarray], pinned: bool = False) -> Iterator[torch.Tensor]:
        """Yield the images of each array of indices, read from the file; `pinned` is for a copy to a GPU.

        Raises
        ------
        DamagedFileError
            If the file ends early by now.
        """
        shape, size = self.shape[1:], self[0].numel()
        for examples in announced(index_arrays, self._file.handle, size):
            images = torch.empty((len(examples), *shape), dtype=torch.uint8, pin_memory=pinned)
            if hasattr(os, "preadv"):
                self._file.read(examples, images.view(len(examples), size).numpy())
            else:
                torch.index_select(self, 0, torch.from_numpy(examples), out=images)
            yield images

    def channel_sums(self) -> ChannelSums | None:
        """Return the sums that the file came with."""
        return self._sums


class _File:
    """A file that stays open, and the same, for as long as somebody has its images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self.handle).st_size

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    def read(self, examples: np.ndarray, rows: np.ndarray) -> None:
        """Read pieces of the file, of the rows' size each, to the rows, and neighbors in the file in one call."""
        size = rows.shape[1]
        places = np.argsort(examples, kind="stable")
        inside = memoryview(rows.reshape(-1))
        for run in _runs(examples[places], min(_MOST_PIECES, max(1, _MOST_BYTES // size))):
            pieces = [inside[place * size : (place + 1) * size] for place in places[run].tolist()]
            try:
                found = os.preadv(self.handle, pieces, int(examples[places[run.start]]) * size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            if found != len(pieces) * size:
                raise DamagedFileError(f"{self.path}: ends early; it has been changed since it was opened")


def _runs(increasing: np.ndarray, longest: int) -> Iterator[slice]:
    """Yield the parts in which each number is one more than the one before, up to a length."""
    ends = [*(np.flatnonzero(np.diff(increasing) != 1) + 1).tolist(), len(increasing)]
    first = 0
    for end in ends:
        for start in range(first, end, longest):
            yield slice(start, min(start + longest, end))
        first = end


def _mapped(handle: int) -> mmap.mmap:
    """Map a file so that writing to the memory leaves the file alone."""
    if os.name == "nt":
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    # Memory that could be written to counts as used, and files are larger than memories, unless said otherwise.
    return mmap.mmap(handle, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
