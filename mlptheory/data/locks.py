"""One process at a time: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ASK_AGAIN_S = 0.1


@contextlib.contextmanager
def alone(path: Path, refusal: Exception | None = None) -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it; it is gone afterwards.

    Parameters
    ----------
    path : Path
        Its folder must be there.
    refusal : Exception, optional
        Raised instead of waiting.

    Raises
    ------
    OSError
        If the file cannot be made, or its file system knows no locks.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Whoever held it has removed the file: a lock on what is no longer there keeps nobody out.
            held = _try_to_lock(handle)
            if not held and refusal is not None:
                raise refusal
            if held and _is_at(handle, path):
                try:
                    yield
                finally:
                    with contextlib.suppress(PermissionError):
                        path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)
        time.sleep(_ASK_AGAIN_S)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _try_to_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
