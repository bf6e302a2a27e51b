"""The orders in which an epoch goes through the examples: functions of the seed, the epoch and how many there are."""

from __future__ import annotations

import numpy as np

from mlptheory.base.random import uniform

BLOCK = 16
"""Consecutive examples that a quasi-random order keeps near each other."""
WINDOW = 4096
"""Blocks among whose examples it is random."""
_AT_ONCE = 2**18


def random_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return a uniformly random order of n examples, an ndarray of int64 of shape (n,), keyed by (seed, epoch).

    Examples
    --------
    >>> sorted(random_order(0, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(_draw(seed, "order", epoch, n), kind="stable")


def quasi_random_order(seed: int, epoch: int, n: int, block: int = BLOCK, window: int = WINDOW) -> np.ndarray:
    """Return an order of n examples that is nearly random, and reads a file nearly in pieces.

    Examples 0 to n - 1 are cut into blocks of `block` consecutive ones, the last of which may be smaller. The blocks
    are put in a uniformly random order; `window` of them in turn form a window, within which all examples are put in
    a uniformly random order. The blocks of a window lie all over the file, whatever it is sorted by. A reader needs
    one window at a time, ``block * window`` images, and finds each of its blocks in one place.

    With up to ``block * window`` examples (65,536) there is one window and the order is uniformly random. Beyond, it
    deviates from that in this: two examples of one block are in the same window, and any two others with
    probability of about ``block * window / n``. Of the B - 1 companions that an example has in a batch, about
    (B - 1) (block - 1) / (block * window - 1) are of its own block, 0.23 at B = 1024; in a random order
    (B - 1) (block - 1) / (n - 1).

    Parameters
    ----------
    seed, epoch : int
        What the order belongs to.
    n : int
        Number of examples.
    block : int
        Consecutive examples that stay together.
    window : int
        Blocks that are mixed.

    Returns
    -------
    ndarray of int64, shape (n,)
        A permutation. Its entry p is of a block whose place in the order of blocks begins within the same window,
        fewer than ``block * window`` from p.

    Examples
    --------
    >>> order = quasi_random_order(0, epoch=0, n=12, block=2, window=3)
    >>> sorted(order.tolist()) == list(range(12)), len({example // 2 for example in order[:6].tolist()})
    (True, 3)
    """
    blocks = np.argsort(_draw(seed, "order of blocks", epoch, -(-n // block)), kind="stable")
    found, written = np.empty(n, dtype=np.int64), 0
    for first in range(0, len(blocks), window):
        examples = (blocks[first : first + window, None] * block + np.arange(block)).reshape(-1)
        # The last block of the file may be anywhere.
        examples = examples[examples < n]
        draws = uniform(seed, "order within windows", epoch, examples, 1)[:, 0]
        found[written : written + len(examples)] = examples[np.argsort(draws, kind="stable")]
        written += len(examples)
    return found


def _draw(seed: int, purpose: str, epoch: int, n: int) -> np.ndarray:
    """Draw a number for each of n indices, in parts, as drawing takes many times the memory of what is drawn."""
    parts = [np.arange(first, min(first + _AT_ONCE, n)) for first in range(0, n, _AT_ONCE)]
    return np.concatenate([uniform(seed, purpose, epoch, part, 1)[:, 0] for part in parts])


ORDERS = {"random": random_order, "quasi-random": quasi_random_order}
"""Functions (seed, epoch, n) by name."""
