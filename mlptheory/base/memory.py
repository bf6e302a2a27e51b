"""How freed memory is kept, so that the next step does not ask the operating system for it again."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator
from functools import lru_cache

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX = 65_536
# What glibc's own adaptation comes to at most; once a threshold was set, it adapts them no more.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20

_holders = 0


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let this process keep the memory it frees, until the outermost of these contexts ends.

    glibc hands large arrays back to the operating system when they are freed, and each that is allocated again costs
    a page fault for every 4 KiB, in a batch of augmented images more time than its arithmetic. No number depends on
    it. Without glibc it does nothing.

    Examples
    --------
    >>> with keeping_freed_memory():
    ...     total = sum(range(10))
    """
    global _holders
    libc = _glibc()
    if libc is None:
        yield
        return
    _holders += 1
    if _holders == 1:
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
            libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
