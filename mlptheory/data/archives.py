"""Archives unpacked as if they were hostile: plain files and folders only, inside one folder, within bounds."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

_BLOCK = 2**20
# What the readers raise where bytes are garbled.
_GARBLED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


class RefusedArchiveError(Exception):
    """An archive that is garbled, asks for what no dataset needs, or unpacks to more than it may."""


def unpack(
    archive: Path, into: Path, *, zipped: bool, most_bytes: int, most_members: int, progress: bool = False
) -> None:
    """Unpack a zip or a gzipped tar into a folder that is there and empty.

    Neither permissions nor owners nor times are taken over.

    Parameters
    ----------
    archive : Path
        Its name says nothing.
    into : Path
        Nothing is written outside it.
    zipped : bool
        Whether it is a zip.
    most_bytes, most_members : int
        Bounds on all files together, and on the number of files and folders.
    progress : bool
        Show a bar.

    Raises
    ------
    RefusedArchiveError
        At a link, a device, a name that is absolute or climbs or comes twice, too much of anything, or garbled bytes.
        What was unpacked before stays in `into`, for the caller to remove.
    OSError
        If `into` cannot be written or the disk is full.
    """
    members = _zip_members if zipped else _tar_members
    written = 0
    with tqdm(unit="B", unit_scale=True, desc="unpacking", disable=not progress, delay=0.5) as bar:
        iterator = _garbled_is_refused(members(archive, most_bytes))
        for number, (name, content) in enumerate(iterator, start=1):
            if number > most_members:
                raise RefusedArchiveError(f"more than {most_members} members")
            target = into.joinpath(*_parts(name))
            _make_folder(target if content is None else target.parent, name)
            for block in () if content is None else _write(target, content, name):
                written += block
                if written > most_bytes:
                    raise RefusedArchiveError(f"more than {most_bytes} bytes")
                bar.update(block)


def _garbled_is_refused(members: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            member = next(members)
        except StopIteration:
            return
        except _GARBLED as error:
            raise RefusedArchiveError(f"garbled ({' '.join(str(error).split()) or type(error).__name__})") from error
        yield member


def _parts(name: str) -> list[str]:
    """Return the parts of a member's name, none of which can lead out of the folder it is joined to on any system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or any(character in name for character in "\\:\0"):
        raise RefusedArchiveError(f"member {name!r} would be written outside its folder")
    return parts


def _make_folder(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RefusedArchiveError(f"member {name!r} comes twice, once as a file") from error


def _write(target: Path, content: IO[bytes], name: str) -> Iterator[int]:
    """Write a new file block by block, yielding each one's size before it is written."""
    try:
        file = target.open("xb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise RefusedArchiveError(f"member {name!r} comes twice") from error
    with file, content:
        size = 0
        while block := _read(content, name):
            yield len(block)
            size += len(block)
            file.write(block)
        # Large files are worth a sync each; thousands of small ones are not, and loaders would find them damaged.
        if size >= _BLOCK:
            file.flush()
            os.fsync(file.fileno())


def _read(content: IO[bytes], name: str) -> bytes:
    try:
        return content.read(_BLOCK)
    except _GARBLED as error:
        raise RefusedArchiveError(f"member {name!r} is garbled ({error})") from error


def _tar_members(archive: Path, most_bytes: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    # Headers are read into memory: all that comes out of the compression is bounded, with room for honest headers.
    most = most_bytes + _BLOCK
    with gzip.open(archive) as opened, tarfile.open(fileobj=_Bounded(opened, most), mode="r|") as tar:
        for member in tar:
            if not member.isfile() and not member.isdir():
                raise RefusedArchiveError(f"member {member.name!r} is neither a file nor a folder")
            yield member.name, tar.extractfile(member)


class _Bounded:
    """A stream that ends in an error where it is longer than it may be."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream, self.left = stream, most

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise RefusedArchiveError("more bytes than it may have")
        return block


def _zip_members(archive: Path, _: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            # The upper half is the Unix mode, 0 where the archive comes from elsewhere.
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise RefusedArchiveError(f"member {member.filename!r} is neither a file nor a folder")
            yield member.orig_filename, None if member.is_dir() else opened.open(member)
