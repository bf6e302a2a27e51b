"""Decoded images made one file without gaps, in one pass that may be killed at any moment."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlptheory.base import DamagedFileError
from mlptheory.base.files import write_atomically
from mlptheory.data.decoding_workers import DecodedChunk, write_at
from mlptheory.data.listing import Listing

_HEADER = 8


class Settling:
    """Close the gaps that unreadable images left, from the front to the back, in the file itself.

    An image moves towards the front by the number of gaps before it. What a chunk's images overwrite may be their own
    places, so they are written to a file beside first: after a kill they are written to their places again.

    Parameters
    ----------
    images : Path
        With every image at the place of its file in the listing.
    listing : Listing
    finished : mapping of int to DecodedChunk
        All chunks.
    image_bytes : int

    Attributes
    ----------
    kept : int
        Images that remain.
    """

    def __init__(self, images: Path, listing: Listing, finished: Mapping[int, DecodedChunk], image_bytes: int) -> None:
        self._images, self._listing, self._finished = images, listing, finished
        self._image_bytes = image_bytes
        self._moving = moving_file(images.parent)
        self.kept = len(listing) - sum(len(chunk.unreadable) for chunk in finished.values())

    def run(self, look: Callable[[memoryview], None]) -> None:
        """Pass over all images, and show those that remain, in order.

        Parameters
        ----------
        look : callable
            Given the bytes of some whole images at a time.

        Raises
        ------
        DamagedFileError
            If a chunk is no longer what it was when it was finished.
        OSError
            If the disk is full.
        """
        with open(self._images, "r+b", buffering=0) as file:
            first, place = self._go_on(file)
            self._show(file, place, look)
            for index in range(first, len(self._finished)):
                content = self._remaining(file, index)
                if self._finished[index].unreadable or place < self._listing.bounds(index)[0]:
                    self._move(file, index, place, content)
                place += self._count(index)
                look(content)
            file.truncate(place * self._image_bytes)
            os.fsync(file.fileno())

    def _go_on(self, file: BinaryIO) -> tuple[int, int]:
        """Repeat the last move of a pass that was killed; return the next chunk, and the images in front of it."""
        if not self._moving.exists():
            return 0, 0
        content = self._moving.read_bytes()
        index = int.from_bytes(content[:_HEADER], "little")
        place = sum(self._count(each) for each in range(index))
        self._put(file, place, memoryview(content)[_HEADER:])
        return index + 1, place + self._count(index)

    def _show(self, file: BinaryIO, images: int, look: Callable[[memoryview], None]) -> None:
        """Look at the images that a pass that was killed had put in their places."""
        at_once = self._listing.chunk
        file.seek(0)
        for start in range(0, images, at_once):
            count = min(at_once, images - start)
            look(memoryview(_read(file, count * self._image_bytes)))

    def _count(self, index: int) -> int:
        start, stop = self._listing.bounds(index)
        return stop - start - len(self._finished[index].unreadable)

    def _remaining(self, file: BinaryIO, index: int) -> memoryview:
        """Read a chunk from where it was decoded to, check it, and leave the unreadable images out."""
        start, stop = self._listing.bounds(index)
        chunk = self._finished[index]
        file.seek(start * self._image_bytes)
        content = _read(file, (stop - start) * self._image_bytes)
        if zlib.crc32(content) != chunk.checksum:
            raise DamagedFileError(
                f"{self._images}: images {start} to {stop - 1} are not what was written; remove the folder "
                f"{self._images.parent.name} and convert again"
            )
        if not chunk.unreadable:
            return memoryview(content)
        images = np.frombuffer(content, dtype=np.uint8).reshape(stop - start, self._image_bytes)
        return memoryview(np.delete(images, [gap for gap, _ in chunk.unreadable], axis=0).reshape(-1))

    def _move(self, file: BinaryIO, index: int, place: int, content: memoryview) -> None:
        write_atomically(self._moving, index.to_bytes(_HEADER, "little") + bytes(content))
        self._put(file, place, content)

    def _put(self, file: BinaryIO, place: int, content: memoryview) -> None:
        write_at(file.fileno(), content, place * self._image_bytes)
        os.fsync(file.fileno())


def moving_file(folder: Path) -> Path:
    """Return the file that is there once images were moved, whose places are then no longer those of the listing."""
    return folder / "moving.bin"


def _read(file: BinaryIO, size: int) -> bytearray:
    content = bytearray(size)
    place = memoryview(content)
    while place:
        count = file.readinto(place)
        if not count:
            raise DamagedFileError(f"{file.name}: ends too early")
        place = place[count:]
    return content
