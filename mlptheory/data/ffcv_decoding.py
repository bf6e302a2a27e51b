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
        If a JPEG image cannot be decompressed, or has another size than the file says, naming it; FFCV would leave in
        its place, or in a part of it, what was there before.
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
        raise DamagedFileError(
            f"{layout.path}: example {broken} is a JPEG image that cannot be decompressed to its size"
        )


def _is_of_size(jpeg, height, width):
    """Return whether a JPEG image, uint8 of shape (n,), says of itself that it has this size; to be compiled."""
    place = 2
    while place + 9 <= len(jpeg) and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        if marker == 0xFF:  # fills up
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            found_height = np.int64(jpeg[place + 5]) * 256 + np.int64(jpeg[place + 6])
            found_width = np.int64(jpeg[place + 7]) * 256 + np.int64(jpeg[place + 8])
            return found_height == np.int64(height) and found_width == np.int64(width)
        else:
            place += 2 + np.int64(jpeg[place + 2]) * 256 + np.int64(jpeg[place + 3])
    return False


@functools.cache
def _whole(workers: int) -> Callable:
    from ffcv.libffcv import imdecode, memcpy
    from ffcv.pipeline.compiler import Compiler

    with compiling_for(workers):
        read, each = memory_read(), Compiler.get_iterator()
        copy, decompress = Compiler.compile(memcpy), Compiler.compile(imdecode)
        is_of_size = Compiler.compile(_is_of_size)

        def decode(examples, pixels, scratch, answers, entries, memory):
            for place in each(len(examples)):
                entry = entries[examples[place]]
                found = read(entry["data_ptr"], memory)
                height, width = entry["height"], entry["width"]
                if entry["mode"] == JPEG:
                    answers[place] = 1
                    if is_of_size(found, height, width):
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
        is_of_size = Compiler.compile(_is_of_size)

        def decode(examples, pixels, scratch, answers, entries, memory):
            for place in each(len(examples)):
                entry = entries[examples[place]]
                found = read(entry["data_ptr"], memory)
                height, width = np.int64(entry["height"]), np.int64(entry["width"])
                if entry["mode"] == JPEG:
                    answers[place] = 1
                    if is_of_size(found, height, width):
                        answers[place] = decompress(
                            found, scratch[place], height, width, height, width, 0, 0, 1, 1, False, False
                        )
                    found = scratch[place][: 3 * height * width]
                side = min(height, width)
                top, left = (height - side) // 2, (width - side) // 2
                resize(found.reshape(height, width, 3), top, top + side, left, left + side, pixels[place])

        decode.is_parallel = True
        return Compiler.compile(decode)
