"""How a .beton file is laid out: checked before FFCV sees it, which trusts every number in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlptheory.base import DamagedFileError, InputError, MissingDataError

VERSION = 2
IMAGE, INT, BYTES, ARRAY, JSON, TENSOR = 2, 1, 3, 4, 5, 6
JPEG, RAW = 0, 1

_HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page_size", "<u4"), ("samples", "<u8"), ("table", "<u8")], align=True
)
_FIELD = np.dtype([("kind", "<u1"), ("name", "<u1", 16), ("arguments", "<u1", 1024)])
FIRST_ARGUMENTS = _HEADER.itemsize + _FIELD.fields["arguments"][1]
"""Where in a file the arguments of its first field begin."""
_ALLOCATION = np.dtype([("sample", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
_POINTED = np.dtype([("ptr", "<u8"), ("size", "<u8")])
# What FFCV keeps of an example for each kind of field: a number, or where its bytes are.
_ENTRIES = {
    0: np.dtype("<f8"),
    INT: np.dtype("<i8"),
    IMAGE: np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")]),
    BYTES: _POINTED,
    ARRAY: np.dtype("<u8"),
    JSON: _POINTED,
    TENSOR: np.dtype("<u8"),
}
_LABELS = (INT, ARRAY, JSON, TENSOR)


@dataclass(frozen=True, kw_only=True)
class BetonLayout:
    """What the header of a .beton file says, all of it within the file.

    Attributes
    ----------
    path : Path
    samples : int
        Number of examples.
    kinds : dict of str to int
        FFCV's number of each field's type, by name, in the order of the file.
    image_arguments : bytes
        1024 bytes that describe the field of images; FFCV leaves them at 0 and never reads them.
    entries : ndarray of shape (N,)
        A structure with one entry per field for each example.
    pointers, sizes : ndarray of uint64
        Where the file's pieces begin, sorted, and how long they are.
    """

    path: Path
    samples: int
    kinds: dict[str, int]
    image_arguments: bytes
    entries: np.ndarray
    pointers: np.ndarray
    sizes: np.ndarray

    def entry(self, field: str) -> np.ndarray:
        """Return what the file keeps of a field for each example."""
        return self.entries[f"f{list(self.kinds).index(field)}"]

    def size_of(self, pointers: np.ndarray) -> np.ndarray:
        """Return the length of the pieces that begin at the given places.

        Raises
        ------
        DamagedFileError
            If none begins there; the first such example is named.
        """
        where = np.minimum(np.searchsorted(self.pointers, pointers), len(self.pointers) - 1)
        self.require(self.pointers[where] == pointers, "points to no data of this file")
        return self.sizes[where]

    def require(self, holds: np.ndarray, otherwise: str) -> None:
        """Raise unless something holds of every example, naming the first of which it does not."""
        if not holds.all():
            raise DamagedFileError(f"{self.path}: example {int(np.argmin(holds))} {otherwise}")


def read_layout(path: str | os.PathLike[str]) -> BetonLayout:
    """Read and check what a .beton file says of itself; pixels are not read.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    BetonLayout
        Its fields "image" and "label" are of types that are read.

    Raises
    ------
    MissingDataError
        If there is no such file.
    InputError
        If it cannot be read, or has no such fields.
    DamagedFileError
        If it is no .beton file, of another version, not finished, or cut short.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"path = {str(path)!r}: expected a .beton file, found a folder or no plain file")
    try:
        with path.open("rb") as file:
            return _read(path, file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise MissingDataError(f"path = {str(path)!r}: expected a .beton file, found none") from None
    except OSError as error:
        raise InputError(f"path = {str(path)!r}: expected a .beton file that can be read ({error.strerror})") from error


def _read(path: Path, file: BinaryIO, length: int) -> BetonLayout:
    if length < _HEADER.itemsize:
        raise DamagedFileError(f"{path}: {length} bytes: expected a .beton file, which has at least {_HEADER.itemsize}")
    header = _part(path, file, length, _HEADER, 0, 1)[0]
    version, page_size = int(header["version"]), int(header["page_size"])
    if version != VERSION:
        raise DamagedFileError(f"{path}: version {version}: expected a .beton file of version {VERSION}")
    if page_size < 1 or page_size & (page_size - 1) or not 1 <= header["fields"] <= 256 or header["samples"] < 1:
        raise DamagedFileError(
            f"{path}: {header['samples']} examples of {header['fields']} fields on pages of {page_size} bytes: "
            f"expected a .beton file, with at least one of each and pages of a power of two"
        )
    fields = _part(path, file, length, _FIELD, _HEADER.itemsize, int(header["fields"]))
    kinds = _kinds(path, fields)
    entry = np.dtype([("", _ENTRIES[kind]) for kind in kinds.values()], align=True)
    start = _HEADER.itemsize + fields.nbytes
    entries = _part(path, file, length, entry, start, int(header["samples"]))
    pointers, sizes = _table(path, file, length, int(header["table"]), start + entries.nbytes)
    layout = BetonLayout(
        path=path,
        samples=len(entries),
        kinds=kinds,
        image_arguments=fields["arguments"][list(kinds).index("image")].tobytes(),
        entries=entries,
        pointers=pointers,
        sizes=sizes,
    )
    _check_images(layout)
    return layout


def _part(path: Path, file: BinaryIO, length: int, kind: np.dtype, start: int, count: int) -> np.ndarray:
    """Read an array, of which only as much memory is asked for as the file is long."""
    if start + count * kind.itemsize > length:
        raise DamagedFileError(f"{path}: {length} bytes: expected at least {start + count * kind.itemsize}: cut short")
    file.seek(start)
    return np.fromfile(file, kind, count)


def _kinds(path: Path, fields: np.ndarray) -> dict[str, int]:
    names = [name.tobytes().split(b"\0")[0].decode("ascii", errors="replace") for name in fields["name"]]
    kinds = dict(zip(names, fields["kind"].tolist(), strict=True))
    if len(kinds) < len(names) or not set(kinds.values()) <= set(_ENTRIES):
        listed = ", ".join(f"{name!r} of type {kind}" for name, kind in zip(names, fields["kind"], strict=True))
        raise DamagedFileError(f"{path}: fields {listed}: expected names once each and types of FFCV's own")
    if kinds.get("image") != IMAGE or kinds.get("label") not in _LABELS:
        raise InputError(
            f"path = {str(path)!r}: fields {', '.join(names)}: expected 'image', an RGBImageField, and 'label', an "
            f"IntField or a list of integers (NDArrayField, TorchTensorField, JSONField)"
        )
    return kinds


def _table(path: Path, file: BinaryIO, length: int, start: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Read where the pieces of a file are, which comes last in it."""
    if start == 0:
        raise DamagedFileError(f"{path}: whoever wrote it was stopped before the end")
    count, rest = divmod(length - start, _ALLOCATION.itemsize)
    if start < least or rest or count < 1:
        raise DamagedFileError(
            f"{path}: {length} bytes: expected a table of its pieces from byte {start} on: cut short"
        )
    table = _part(path, file, length, _ALLOCATION, start, count)
    order = np.argsort(table["ptr"], kind="stable")
    pointers, sizes = table["ptr"][order], table["size"][order]
    # Compared without sums, which could run over.
    if pointers[0] < least or pointers[-1] > start or (sizes > start - pointers).any():
        raise DamagedFileError(f"{path}: pieces that lie outside of their place in the file")
    return pointers, sizes


def _check_images(layout: BetonLayout) -> None:
    image = layout.entry("image")
    layout.require((image["mode"] == RAW) | (image["mode"] == JPEG), "is neither raw nor JPEG")
    pixels = 3 * image["width"].astype(np.uint64) * image["height"]
    layout.require(pixels > 0, "has no pixels")
    sizes = layout.size_of(image["data_ptr"])
    layout.require((image["mode"] == JPEG) | (sizes == pixels), "has more or fewer bytes than pixels")
