"""The orders in which an epoch goes through the examples: functions of the seed, the epoch and how many there are."""

from __future__ import annotations

import numpy as np

from mlptheory.base.random import generator, uniform

BLOCK = 16
"""Consecutive examples that a quasi-random order keeps near each other."""
WINDOW = 4096
"""Blocks, at most, among whose examples it is random."""
_AT_ONCE = 2**18


def random_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return a uniformly random order of n examples, an ndarray of int64 of shape (n,), keyed by (seed, epoch).

    Examples
    --------
    >>> sorted(random_order(0, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    # In parts, as drawing takes many times the memory of what is drawn.
    parts = [np.arange(first, min(first + _AT_ONCE, n)) for first in range(0, n, _AT_ONCE)]
    return np.argsort(np.concatenate([uniform(seed, "order", epoch, part, 1)[:, 0] for part in parts]), kind="stable")


def quasi_random_order(seed: int, epoch: int, n: int, block: int = BLOCK, window: int = WINDOW) -> np.ndarray:
    """Return an order of n examples that is nearly random, and reads a file nearly in pieces.

    Examples 0 to n - 1 are cut into blocks of `block` consecutive ones, the last of which may be smaller. The blocks
    are put in a uniformly random order and dealt out in turn to as few windows as hold `window` of them each, equally
    but for one. Within its window, all examples are put in a uniformly random order. The blocks of a window lie all
    over the file, whatever it is sorted by. A reader needs one window at a time, ``block * window`` images or fewer,
    and finds each of its blocks in one place.

    With up to ``block * window`` examples (65,536) there is one window and the order is uniformly random. Beyond, it
    deviates from that in this: two examples of one block are always in the same window, and two others in one of
    ``1 / number of windows`` of the epochs. Of the B - 1 companions that an example has in a batch of a window of m
    examples, (B - 1) (block - 1) / (m - 1) are of its own block: at B = 1024 and a million examples 0.245, where a
    random order has 0.015. If a block is of one class, as in a file that is sorted, a batch has that much more of
    it, and the batches of one window, 61 here, share their 3,907 blocks.

    Parameters
    ----------
    seed, epoch : int
        What the order belongs to.
    n : int
        Number of examples.
    block : int
        Consecutive examples that stay together.
    window : int
        Blocks that are mixed, at most; where there are more than that, at least half as many.

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
    # Not drawn by example, which takes seconds for millions: nothing but whole orders is ever wanted.
    blocks = np.argsort(generator(seed, "order of blocks", epoch).random(-(-n // block)))
    found, written = np.empty(n, dtype=np.int64), 0
    # Of equal size: the last one would else be a few blocks, and its batches of one place in the file.
    for index, some in enumerate(np.array_split(blocks, -(-len(blocks) // window))):
        examples = (some[:, None] * block + np.arange(block)).reshape(-1)
        # The last block of the file may be anywhere.
        examples = examples[examples < n]
        draws = generator(seed, "order within a window", epoch, index).random(len(examples))
        found[written : written + len(examples)] = examples[np.argsort(draws)]
        written += len(examples)
    return found


ORDERS = {"random": random_order, "quasi-random": quasi_random_order}
"""Functions (seed, epoch, n) by name."""
