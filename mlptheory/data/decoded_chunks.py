"""What was decoded before a conversion was killed: a journal, one synced line for each finished chunk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mlptheory.base.files import canonical_json
from mlptheory.data.decoding_workers import DecodedChunk

if TYPE_CHECKING:
    from typing import Self


class Journal:
    """The chunks that are finished, and those that are being added.

    A line that a kill or a full disk cut short is dropped, and so is a chunk of which a file has changed since.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    keys : sequence of str
        What each chunk's files are now; see `Listing`.
    frozen : bool
        Whether files that have changed count as they were.

    Attributes
    ----------
    finished : dict of int to DecodedChunk
    """

    def __init__(self, path: Path, keys: tuple[str, ...], *, frozen: bool = False) -> None:
        self._path, self._keys, self._frozen = path, keys, frozen
        self.finished: dict[int, DecodedChunk] = {}

    def __enter__(self) -> Self:
        self._file = open(self._path, "a+b", buffering=0)
        whole = 0
        for line, key, chunk in self._lines():
            whole += len(line)
            self.finished.pop(chunk.chunk, None)
            if self._frozen or self._keys[chunk.chunk] == key:
                self.finished[chunk.chunk] = chunk
        self._file.truncate(whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _lines(self) -> Iterator[tuple[bytes, str, DecodedChunk]]:
        """Yield the lines up to the first that is not whole."""
        self._file.seek(0)
        for line in self._file.read().splitlines(keepends=True):
            try:
                chunk, key, checksum, unreadable = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n"):
                return
            pairs = tuple((index, reason) for index, reason in unreadable)
            yield line, key, DecodedChunk(chunk=chunk, checksum=checksum, unreadable=pairs)

    def add(self, chunk: DecodedChunk) -> None:
        """Write a chunk down; it is on the disk when this returns."""
        line = canonical_json([chunk.chunk, self._keys[chunk.chunk], chunk.checksum, chunk.unreadable])
        content = line.encode() + b"\n"
        if self._file.write(content) < len(content):
            raise OSError(28, os.strerror(28), str(self._path))
        os.fsync(self._file.fileno())
        self.finished[chunk.chunk] = chunk
