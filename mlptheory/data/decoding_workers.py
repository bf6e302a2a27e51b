"""Processes that decode chunks of images into their places in one file, and end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from mlptheory.data.class_folder import LEADS_NOWHERE
from mlptheory.data.decoding import UnreadableImageError, decode_image
from mlptheory.data.listing import Listing
from mlptheory.data.locks import alone

_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What is to be decoded, and into which file.

    Attributes
    ----------
    folder : Path
        Below which the listed files are.
    listing : Listing
    images : Path
        Has room for all of them.
    resolution : int
    """

    folder: Path
    listing: Listing
    images: Path
    resolution: int


@dataclass(frozen=True, kw_only=True)
class DecodedChunk:
    """A chunk that is in its place, and on the disk.

    Attributes
    ----------
    chunk : int
    checksum : int
        CRC-32 of its bytes; those of unreadable images are zero.
    unreadable : tuple of (int, str) pairs
        Place within the chunk, and reason.
    """

    chunk: int
    checksum: int
    unreadable: tuple[tuple[int, str], ...]


def decode_chunks(decoding: Decoding, chunks: Iterable[int], workers: int) -> Iterator[DecodedChunk]:
    """Decode chunks beside each other and yield each as it is finished, in any order.

    Parameters
    ----------
    decoding : Decoding
    chunks : iterable of int
    workers : int
        Processes. They hold locks beside `images`, which `wait_for_workers` waits for.

    Raises
    ------
    ChildProcessError
        If a process dies, as where the memory is at its end.
    OSError
        What a process met: a full disk, a folder that cannot be reached.
    """
    spawn = multiprocessing.get_context("spawn")
    waiting = iter(chunks)
    pipes: dict[Connection, multiprocessing.process.BaseProcess] = {}
    try:
        for number in range(workers):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(decoding, theirs, number), daemon=True)
            process.start()
            theirs.close()
            pipes[ours] = process
        owed = {pipe: _hand_out(pipe, waiting, _AHEAD) for pipe in pipes}
        while any(owed.values()):
            for pipe in wait([pipe for pipe, count in owed.items() if count]):
                yield _answer(pipe, pipes[pipe])
                owed[pipe] += _hand_out(pipe, waiting, 1) - 1
    except BaseException:
        for process in pipes.values():
            process.terminate()
        raise
    finally:
        for pipe, process in pipes.items():
            pipe.close()
            process.join()


def wait_for_workers(folder: Path) -> None:
    """Return when no process of an earlier, killed call writes there any more."""
    for lock in folder.glob("worker-*.lock"):
        with alone(lock):
            pass


def _hand_out(pipe: Connection, waiting: Iterator[int], most: int) -> int:
    """Give a process up to so many chunks more; return how many there were."""
    given = 0
    # One that died is found out when its answer is read.
    with contextlib.suppress(BrokenPipeError):
        for chunk in waiting:
            given += 1
            pipe.send(chunk)
            if given == most:
                break
    return given


def _answer(pipe: Connection, process: multiprocessing.process.BaseProcess) -> DecodedChunk:
    try:
        found = pipe.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise ChildProcessError(
            f"a process that decoded images ended with code {process.exitcode}; what is decoded is kept, and the same "
            "command goes on"
        ) from None
    if isinstance(found, OSError):
        raise found
    return found


def _work(decoding: Decoding, pipe: Connection, number: int) -> None:
    """Decode what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; only the first one acts on it
    try:
        with (
            alone(decoding.images.with_name(f"worker-{number}.lock")),
            open(decoding.images, "r+b", buffering=0) as out,
            contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError),
        ):
            while True:
                pipe.send(_decode_chunk(decoding, pipe.recv(), out.fileno()))
    except OSError as error:
        with contextlib.suppress(OSError):
            pipe.send(error)


def _decode_chunk(decoding: Decoding, chunk: int, out: int) -> DecodedChunk:
    start, stop = decoding.listing.bounds(chunk)
    side = decoding.resolution
    pixels = np.zeros((stop - start, 3, side, side), dtype=np.uint8)
    unreadable = []
    for index, path in enumerate(decoding.listing.files(chunk)):
        try:
            pixels[index] = decode_image(_read(decoding.folder / path), side)
        except UnreadableImageError as error:
            unreadable.append((index, str(error)))
    content = memoryview(pixels).cast("B")
    write_at(out, content, start * 3 * side * side)
    os.fsync(out)
    return DecodedChunk(chunk=chunk, checksum=zlib.crc32(content), unreadable=tuple(unreadable))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in LEADS_NOWHERE and not isinstance(error, PermissionError | IsADirectoryError):
            raise
        raise UnreadableImageError(error.strerror or str(error)) from error


def write_at(handle: int, content: memoryview, position: int) -> None:
    """Write all of some bytes at a place in a file; a single call may write less."""
    os.lseek(handle, position, os.SEEK_SET)
    while content:
        content = content[os.write(handle, content) :]
