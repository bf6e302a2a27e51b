"""Loops in C that torch has no single operation for, compiled on the machine that runs them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import platformdirs

from mlptheory.base.files import sha256, write_atomically

# A sum of products is rounded as it is written, whatever the compiler; and a library that was linked for -ffast-math
# flushes the denormal numbers of the whole process to zero.
_ROUNDING = ("-fno-fast-math", "-ffp-contract=off")
_FLAGS = ("-O3", "-march=native", "-funroll-loops", *_ROUNDING, "-std=gnu11", "-fopenmp", "-shared", "-fPIC")
_PATIENCE_S = 120


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """Return a file of C as a loaded library, None where there is no compiler for it.

    It is compiled once for a machine and kept in the platform's cache folder. The compiler is ``$CC`` if that is set,
    none if it is set to nothing, else ``cc``. Only on Linux: there OpenMP's threads are those of torch.

    Parameters
    ----------
    source : Path
        The file. What it is compiled to is another where the file, the compiler or the processor is.

    Returns
    -------
    CDLL or None
        None too where the compiler fails, for want of a header for example; whoever asks has another way.

    Examples
    --------
    >>> library = compiled(Path(__file__).parent.parent / "training" / "lion.c")
    >>> library is None or hasattr(library, "lion")
    True
    """
    words = _command()
    if words is None:
        return None
    # OpenMP's own library is torch's, if that is there first: two would keep each other's threads waiting.
    import torch  # noqa: F401

    try:
        name = f"{source.stem}-{_identity(source, words)}.so"
        return _kept(name) or _compile(source, words, name)
    except (OSError, subprocess.SubprocessError):
        return None


def compiler() -> str | None:
    """Return what the compiler says it is, None where there is none.

    Examples
    --------
    >>> compiler() is None or len(compiler().splitlines()) == 1
    True
    """
    words = _command()
    if words is None:
        return None
    try:
        return _run([*words, "--version"]).decode(errors="replace").splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _command() -> tuple[str, ...] | None:
    if platform.system() != "Linux":
        return None
    try:
        words = shlex.split(os.environ.get("CC", "cc"))
    except ValueError:
        # A quotation that does not end.
        return None
    found = shutil.which(words[0]) if words else None
    return None if found is None else (found, *words[1:])


def _identity(source: Path, words: tuple[str, ...]) -> str:
    of_processor = Path("/proc/cpuinfo").read_bytes().partition(b"\n\n")[0].splitlines()
    same = [line for line in of_processor if line.split(b"\t")[0] in (b"model name", b"flags", b"Features")]
    parts = [source.read_bytes(), " ".join([*words, *_FLAGS]).encode(), _run([*words, "--version"]), *same]
    return sha256(b"\0".join(parts))[:32]


def _folder() -> Path | None:
    """Return where compiled code is kept, None if anyone but this user could put something there."""
    folder = platformdirs.user_cache_path("mlptheory") / "compiled"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError:
        return None
    return folder if about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else None


def _kept(name: str) -> ctypes.CDLL | None:
    folder = _folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(folder / name))
    return None


def _compile(source: Path, words: tuple[str, ...], name: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as fresh:
        made = Path(fresh) / name
        _run([*words, *_FLAGS, "-o", str(made), str(source), "-lm"])
        _keep(made.read_bytes(), name)
        # Not from the temporary folder, if need not be: that one may not hold programs.
        return _kept(name) or ctypes.CDLL(str(made))


def _keep(content: bytes, name: str) -> None:
    """Put a library among the kept ones; where that cannot be, the next process compiles it again."""
    folder = _folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            write_atomically(folder / name, content)
            (folder / name).chmod(0o600)


def _run(command: Sequence[str]) -> bytes:
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=True)
    return found.stdout
