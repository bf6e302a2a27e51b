"""Telling the system what will be read, so that the disk works ahead and in the order of the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import numpy as np

# Announced together, and while as much is read; a window of a quasi-random order is a few of them.
_GROUP_BYTES = 2**28
# What lies between two pieces is read along with them, at this distance, sooner than skipped.
_GAP_BYTES = 2**17


def announced(index_arrays: Iterable[np.ndarray], handle: int, size: int) -> Iterator[np.ndarray]:
    """Yield arrays of indices, with the pieces of a file that belong to the next ones announced to the system.

    Parameters
    ----------
    index_arrays : iterable of ndarray of int
        Of pieces of the file.
    handle : int
        The open file.
    size : int
        Bytes of a piece.

    Yields
    ------
    ndarray
        The same arrays.
    """
    groups = _groups(index_arrays, max(1, _GROUP_BYTES // size))
    current = next(groups, [])
    _announce(handle, size, _ranges(current, size))
    while current:
        following = next(groups, [])
        ranges = np.array_split(_ranges(following, size), len(current))
        for examples, some in zip(current, ranges, strict=True):
            _announce(handle, size, some)
            yield examples
        current = following


def _groups(index_arrays: Iterable[np.ndarray], at_least: int) -> Iterator[list[np.ndarray]]:
    group, count = [], 0
    for examples in index_arrays:
        group.append(examples)
        count += len(examples)
        if count >= at_least:
            yield group
            group, count = [], 0
    if group:
        yield group


def _ranges(group: list[np.ndarray], size: int) -> np.ndarray:
    """Return the first and last of pieces that lie together, in the order of the file, shape (n, 2)."""
    if not group:
        return np.empty((0, 2), dtype=np.int64)
    pieces = np.sort(np.concatenate(group))
    begins = np.flatnonzero(np.diff(pieces) > 1 + _GAP_BYTES // size) + 1
    firsts = np.concatenate([[0], begins])
    lasts = np.append(firsts[1:], len(pieces)) - 1
    return np.stack([pieces[firsts], pieces[lasts]], axis=1)


def _announce(handle: int, size: int, ranges: np.ndarray) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    # A file system that takes no advice is read without.
    with contextlib.suppress(OSError):
        for first, last in ranges.tolist():
            os.posix_fadvise(handle, first * size, (last + 1 - first) * size, os.POSIX_FADV_WILLNEED)
