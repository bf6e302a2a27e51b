"""Which rows of a logical batch each of several processes makes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlptheory.base import invalid


class Shard(NamedTuple):
    """One process's share of a logical batch.

    Attributes
    ----------
    rows : slice
        Which rows of the batch are its own.
    made : ndarray of int64
        Positions in the batch that it makes: its own and, before them, what the first of them is mixed with.
    kept : slice
        Which of those it makes are its own.
    """

    rows: slice
    made: np.ndarray
    kept: slice


def shard(size: int, rank: int, world: int) -> slice:
    """Return one process's rows of a logical batch.

    Parameters
    ----------
    size : int
        Rows of the logical batch.
    rank, world : int
        Number of the process, from 0, and how many there are.

    Returns
    -------
    slice
        Consecutive rows; shares differ by at most one, and are empty where there are more processes than rows.

    Raises
    ------
    InputError
        If there is no such process.

    Examples
    --------
    >>> [shard(5, rank, 3) for rank in range(3)]
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    if world < 1:
        raise invalid("world", world, "an integer of at least 1")
    if not 0 <= rank < world:
        raise invalid("rank", rank, f"an integer from 0 to {world - 1}")
    return slice(rank * size // world, (rank + 1) * size // world)


def share(size: int, rank: int, world: int, *, mixed: bool, whole: bool) -> Shard:
    """Return what one process makes of a logical batch, so that its rows come out as those of the whole.

    Parameters
    ----------
    size : int
        Rows of the logical batch.
    rank, world : int
    mixed : bool
        Whether each row is mixed with the one before it, the first with the last.
    whole : bool
        Whether a row depends on all others, so that all are made.

    Examples
    --------
    >>> share(5, 0, 2, mixed=True, whole=False).made
    array([4, 0, 1])
    """
    rows = shard(size, rank, world)
    own = rows.stop - rows.start
    if whole:
        return Shard(rows, np.arange(size), rows)
    # A process without rows makes one and keeps none: no operator has to know of empty batches.
    before = mixed or not own
    return Shard(rows, np.arange(rows.start - before, rows.stop) % size, slice(int(before), None))
