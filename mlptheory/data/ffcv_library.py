"""The package FFCV, kept from what it does to the whole process: threads of torch and numba, and numba's types."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mlptheory.base import InputError


def require_ffcv(why: str) -> None:
    """Import FFCV, which takes seconds the first time.

    Parameters
    ----------
    why : str
        What it is needed for, the beginning of the message.

    Raises
    ------
    InputError
        If it is not installed, saying how it is.
    """
    # Imported, it sets torch to one thread.
    threads = torch.get_num_threads()
    try:
        import ffcv  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{why}: expected the package ffcv ({error}); make ffcv installs it, or pip install "
            f'"mlptheory[ffcv]" where OpenCV, libjpeg-turbo and pkg-config are'
        ) from error
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
    from ffcv.memory_managers import OSCacheManager

    OSCacheManager.compile_reader = lambda manager: memory_read()


@functools.cache
def memory_read() -> Callable:
    """Compile the way from a pointer to the bytes that begin there.

    FFCV's own is the same, but its signature changes a type of numba's in place, for the whole process: what was
    compiled with that type before is not found again.
    """
    from ffcv.pipeline.compiler import Compiler

    def read(pointer, memory):
        size = memory[2][np.searchsorted(memory[1], pointer)]
        return memory[0][pointer : pointer + size]

    return Compiler.compile(read)


@contextmanager
def compiling_for(workers: int) -> Iterator[None]:
    """Let FFCV generate code for a number of threads, and give torch and numba theirs back."""
    import numba
    from ffcv.pipeline.compiler import Compiler

    of_torch, of_numba, of_ffcv = torch.get_num_threads(), numba.get_num_threads(), Compiler.num_threads
    Compiler.set_num_threads(workers)
    try:
        yield
    finally:
        Compiler.num_threads = of_ffcv
        numba.set_num_threads(of_numba)
        torch.set_num_threads(of_torch)


def most_workers() -> int:
    """Return how many threads numba may use: the cores of this process."""
    import numba

    return numba.config.NUMBA_NUM_THREADS
