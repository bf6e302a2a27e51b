"""FFCV's copying, decompression and resizing, compiled once for a process rather than once for a file."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numpy as np

from mlptheory.base import DamagedFileError
from mlptheory.data.beton_layout import JPEG, BetonLayout
from mlptheory.data.ffcv_library import compiling_for, memory_read

# Not every way in which numba runs threads survives two regions at once.
_DECODING = threading.Lock()


def memory_of(layout: BetonLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a file as FFCV's compiled code takes it: a memory map, where its pieces begin and how long they are."""
    return np.memmap(layout.path, np.uint8, "r"), layout.pointers, layout.sizes


def decode_images(
    layout: BetonLayout,
    memory: tuple[np.ndarray, np.ndarray, np.ndarray],
    examples: np.ndarray,
    pixels: np.ndarray,
    scratch: np.ndarray,
    workers: int,
) -> None:
    """Decode some images, whole if the scratch is empty, else their largest centered square resized.

    Parameters
    ----------
    layout : BetonLayout
    memory : tuple
        From `memory_of`.
    examples : ndarray of int64, shape (n,)
        Within the file.
    pixels : ndarray of uint8, shape (n, H, W, 3)
        Where they go.
    scratch : ndarray of uint8, shape (n, bytes of the largest image) or (n, 0)
        For decompressed images before they are resized.
    workers : int
        Threads of numba.

    Raises
    ------
    DamagedFileError
        If a JPEG image cannot be decompressed, naming it; FFCV would leave in its place what was there before.
    """
    import numba

    answers = np.zeros(len(examples), np.int32)
    before = numba.get_num_threads()
    with _DECODING:
        numba.set_num_threads(workers)
        try:
            decode = _resizing(workers) if scratch.size else _whole(workers)
            decode(examples, pixels, scratch, answers, layout.entry("image"), memory)
        finally:
            numba.set_num_threads(before)
    if answers.any():
        broken = int(examples[np.flatnonzero(answers)[0]])
        raise DamagedFileError(f"{layout.path}: example {broken} is a JPEG image that cannot be decompressed")


@functools.cache
def _whole(workers: int) -> Callable:
    from ffcv.libffcv import imdecode, memcpy
    from ffcv.pipeline.compiler import Compiler

    with compiling_for(workers):
        read, each = memory_read(), Compiler.get_iterator()
        copy, decompress = Compiler.compile(memcpy), Compiler.compile(imdecode)

        def decode(examples, pixels, scratch, answers, entries, memory):
            for place in each(len(examples)):
                entry = entries[examples[place]]
                found = read(entry["data_ptr"], memory)
                height, width = entry["height"], entry["width"]
                if entry["mode"] == JPEG:
                    answers[place] = decompress(
                        found, pixels[place], height, width, height, width, 0, 0, 1, 1, False, False
                    )
                else:
                    copy(found, pixels[place])

        decode.is_parallel = True
        return Compiler.compile(decode)


@functools.cache
def _resizing(workers: int) -> Callable:
    from ffcv.libffcv import imdecode, resize_crop
    from ffcv.pipeline.compiler import Compiler

    with compiling_for(workers):
        read, each = memory_read(), Compiler.get_iterator()
        resize, decompress = Compiler.compile(resize_crop), Compiler.compile(imdecode)

        def decode(examples, pixels, scratch, answers, entries, memory):
            for place in each(len(examples)):
                entry = entries[examples[place]]
                found = read(entry["data_ptr"], memory)
                height, width = np.int64(entry["height"]), np.int64(entry["width"])
                if entry["mode"] == JPEG:
                    answers[place] = decompress(
                        found, scratch[place], height, width, height, width, 0, 0, 1, 1, False, False
                    )
                    found = scratch[place][: 3 * height * width]
                side = min(height, width)
                top, left = (height - side) // 2, (width - side) // 2
                resize(found.reshape(height, width, 3), top, top + side, left, left + side, pixels[place])

        decode.is_parallel = True
        return Compiler.compile(decode)
