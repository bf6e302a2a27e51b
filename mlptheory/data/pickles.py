"""Read CIFAR's pickles without trusting them: nothing outside this file can be called.

The official files are protocol-2 pickles of a dictionary with one byte array. Of the names that such a pickle
asks for, each is answered by a stand-in that does only what CIFAR needs; any other name is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mlptheory.base import DamagedFileError


class _Dtype:
    """Stand-in for the dtype of unsigned bytes."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        """Ignore it: for single bytes there is no byte order to keep."""


class _Array:
    """Stand-in for an array of unsigned bytes, filled by the pickle's BUILD."""

    __slots__ = ("values",)

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not of unsigned bytes")
        self.values = np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _MakeDtype:
    __slots__ = ()

    def __call__(self, code: Any, *_flags: Any) -> _Dtype:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}")
        return _Dtype()


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_ignored: Any) -> _Array:
        return _Array()


class _Encode:
    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
        return text.encode("latin1")


# The array's maker lived in numpy.core until NumPy 2 moved it to numpy._core; Python 3 writes bytes for
# protocol 2 as an encoded string. Instances without attributes, so that no pickle can alter them.
_STAND_INS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _Encode(),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Answer with a stand-in, or refuse."""
        if (module, name) not in _STAND_INS:
            raise _RefusedError(f"{module}.{name}")
        return _STAND_INS[module, name]


class _RefusedError(Exception):
    pass


def read_pickle(path: Path, smallest: int, largest: int) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, texts, lists and byte arrays.

    Parameters
    ----------
    path : Path
        The file.
    smallest, largest : int
        Bytes between which a whole file can lie.

    Returns
    -------
    dict
        With text keys; arrays as read-only ndarrays of uint8.

    Raises
    ------
    DamagedFileError
        If the size is out of bounds, the content is no pickle, is cut short or has bytes after its end, is not a
        dictionary, or asks for any name that CIFAR does not need; such a name is not imported, let alone called.
    """
    found = path.stat().st_size
    if not smallest <= found <= largest:
        raise DamagedFileError(f"{path}: expected {smallest} to {largest} bytes, found {found}")
    stream = io.BytesIO(path.read_bytes())
    try:
        content = _Unpickler(stream, encoding="bytes").load()
    except _RefusedError as error:
        raise DamagedFileError(f"{path}: refused, as it calls {error}: expected a pickle of CIFAR arrays") from None
    except Exception as error:  # a garbled pickle can raise nearly anything
        reason = " ".join(str(error).split())
        raise DamagedFileError(
            f"{path}: expected a whole pickle of {smallest} to {largest} bytes, "
            f"found {found} bytes that are cut short or garbled ({reason})"
        ) from error
    if stream.tell() != found:
        raise DamagedFileError(f"{path}: expected a pickle of {stream.tell()} bytes, found {found}")
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path}: expected a dictionary, found {type(content).__name__}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): (
            getattr(value, "values", None) if isinstance(value, _Array) else value
        )
        for key, value in content.items()
    }
