"""Random draws keyed by what they belong to, so that nothing else can change them.

Draws per example come from Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy
as 1, 2, 3"), a counter-based generator: the draw of one example needs neither the draws before it nor any
state, whatever the batch, the number of workers or the storage behind it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def key(seed: int, purpose: str, *indices: int) -> int:
    """Hash a seed, a purpose and indices (an epoch, a batch) to a 64-bit key.

    Parameters
    ----------
    seed : int
        The user's seed.
    purpose : str
        What the draws are for: "initialization", "order", "augmentation", ...
    *indices : int
        What the draws belong to.

    Returns
    -------
    int
        In [0, 2**64).

    Examples
    --------
    >>> key(0, "order", 1) == key(0, "order", 1), key(0, "order", 1) == key(0, "order", 2)
    (True, False)
    """
    text = "\x1f".join([str(int(seed)), purpose, *(str(int(index)) for index in indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return ten rounds of Philox4x32 for many counters at once.

    Parameters
    ----------
    counter : ndarray of shape (..., 4)
        Four 32-bit words each.
    key : tuple of two ints
        Two 32-bit words.

    Returns
    -------
    ndarray of uint64, shape (..., 4)
        Four uniform 32-bit words per counter.
    """
    c0, c1, c2, c3 = (np.ascontiguousarray(counter[..., word], dtype=np.uint64) & _LOW for word in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniform(seed: int, purpose: str, epoch: int, examples: np.ndarray, draws: int, first: int = 0) -> np.ndarray:
    """Draw uniform numbers that depend on (seed, purpose, epoch, example, draw) and on nothing else.

    Parameters
    ----------
    seed, purpose, epoch
        What the draws belong to.
    examples : ndarray of int, shape (N,)
        Indices of the examples, in any order, repeats allowed.
    draws : int
        Numbers per example.
    first : int
        Index of the first of them; a multiple of 4.

    Returns
    -------
    ndarray of float64, shape (N, draws)
        In the open interval (0, 1), 32 bits each: (word + 1/2) / 2**32.

    Examples
    --------
    >>> all_of_them = uniform(0, "augmentation", 3, np.arange(10), 5)
    >>> bool((uniform(0, "augmentation", 3, np.array([7, 2]), 5) == all_of_them[[7, 2]]).all())
    True
    """
    if first % 4:
        raise ValueError(f"first = {first}: expected a multiple of 4")
    examples = np.asarray(examples, dtype=np.uint64)
    blocks = np.arange(first // 4, first // 4 + -(-draws // 4), dtype=np.uint64)
    counter = np.zeros((len(examples), len(blocks), 4), dtype=np.uint64)
    counter[..., 0] = (examples & _LOW)[:, None]
    counter[..., 1] = (examples >> _HALF)[:, None]
    counter[..., 2] = np.uint64(epoch)
    counter[..., 3] = blocks
    hashed = key(seed, purpose)
    words = philox4x32(counter, (hashed & 0xFFFFFFFF, hashed >> 32))
    return (words.reshape(len(examples), 4 * len(blocks))[:, :draws] + 0.5) * 2.0**-32


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return a fresh NumPy generator keyed by (seed, purpose, indices).

    Examples
    --------
    >>> int(generator(0, "order", 4).integers(10)) == int(generator(0, "order", 4).integers(10))
    True
    """
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, *indices)))


def torch_generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a fresh torch generator on the CPU, keyed by (seed, purpose, indices).

    Examples
    --------
    >>> torch_generator(0, "dropout", 4).initial_seed() == torch_generator(0, "dropout", 4).initial_seed()
    True
    """
    import torch

    return torch.Generator(device="cpu").manual_seed(key(seed, purpose, *indices) >> 1)
