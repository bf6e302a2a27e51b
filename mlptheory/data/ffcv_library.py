"""The package FFCV, which is not asked to do more than it must: it sets the threads of the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
