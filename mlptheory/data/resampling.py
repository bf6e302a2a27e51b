"""Images moved by the few numbers in each row of a crop's, a flip's or a shift's matrix."""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from mlptheory.base.native import compiled
from mlptheory.data.operators import crop_resize_taps

# Of images that are moved at a time without compiled code: with what is made on the way they fit into a core's cache.
_NUMBERS = 2**19


class Taps(NamedTuple):
    """Matrices of one axis, of shape (h, H) each, by the few numbers that are not 0 in a row.

    Attributes
    ----------
    starts : Tensor of int32, shape (B, h)
        The column of each row's first number.
    weights : Tensor of float32, shape (B, K, h)
        The K numbers from there on.
    """

    starts: torch.Tensor
    weights: torch.Tensor

    @staticmethod
    def of_windows(starts: torch.Tensor, lengths: torch.Tensor, size_in: int, size_out: int) -> Taps:
        """Return the matrices that crop to windows, of shape (B,) each, and resize."""
        firsts, weights = crop_resize_taps(starts, lengths, size_in, size_out)
        return Taps(firsts.to(torch.int32), weights.to(torch.float32).mT.contiguous())

    def flipped(self) -> Taps:
        """Return the matrices whose rows come in the other order."""
        return Taps(self.starts.flip(1), self.weights.flip(2))

    def flipped_where(self, flips: torch.Tensor) -> Taps:
        """Return each matrix, flipped where it is said to be; flips of bool, shape (B,)."""
        other = self.flipped()
        return Taps(
            torch.where(flips[:, None], other.starts, self.starts),
            torch.where(flips[:, None, None], other.weights, self.weights),
        )

    def select(self, indices: torch.Tensor) -> Taps:
        """Return the matrices with these indices, shape (B,)."""
        return Taps(self.starts.index_select(0, indices), self.weights.index_select(0, indices))

    def shifted(self, offsets: torch.Tensor, cyclic: bool) -> Taps:
        """Return matrices whose row i is row i - offset of these, cyclic or of zeros outside; offsets of shape (B,)."""
        batch, size = len(offsets), self.starts.shape[1]
        sources = torch.arange(size, device="cpu") - offsets[:, None]
        inside = (sources >= 0) & (sources < size)
        sources = sources % size
        weights = self.weights.expand(batch, -1, -1).gather(2, sources[:, None].expand(-1, self.weights.shape[1], -1))
        if not cyclic:
            weights = weights * inside[:, None]
        return Taps(self.starts.expand(batch, -1).gather(1, sources), weights.contiguous())

    def expand(self, batch: int) -> Taps:
        """Return one matrix for each of a batch."""
        return Taps(self.starts.expand(batch, -1), self.weights.expand(batch, -1, -1))


class _Axis(ctypes.Structure):
    _fields_ = (
        ("starts", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("count", ctypes.c_ssize_t),
        ("stride", ctypes.c_ssize_t),
        ("size_in", ctypes.c_ssize_t),
        ("size_out", ctypes.c_ssize_t),
    )


def resampled(
    pixels: torch.Tensor,
    rows: Taps | None,
    columns: Taps | None,
    *,
    shape_in: tuple[int, int, int],
    shape_out: tuple[int, int, int],
    scale: torch.Tensor,
    offset: torch.Tensor,
    weights: torch.Tensor | None,
    members: int = 1,
) -> torch.Tensor:
    """Return images normalized, moved by R_y image R_xᵀ, and mixed each with the one before it.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (M·B, C·H·W)
        On the CPU.
    rows, columns : Taps or None
        R_y and R_x of each image, or one for all; None leaves the axis as it is.
    shape_in, shape_out : tuple (C, H, W)
        Of an image before and after.
    scale, offset : Tensor of float32, shape (S, 1)
        A byte u becomes scale · u + offset; each serves C·H·W / S of an image's numbers, in order.
    weights : Tensor of float32, shape (M·B,), or None
        Of the image itself in its mixture; nothing is mixed if None.
    members : int
        M; the first image of each is mixed with its last.

    Returns
    -------
    Tensor of float32, shape (M·B, C, h, w)
        The arithmetic is in float32. An image's bits depend on its own bytes and draws and on those of the one that
        is mixed in; not on the number of threads, and not on whether there is a compiler.
    """
    found = torch.empty((len(pixels), *shape_out), dtype=torch.float32, device="cpu")
    resample = _in_torch if _library() is None else _in_c
    if len(pixels):
        # Every array has a name: what only an address stands for would be freed.
        pixels, scale, offset = (each.contiguous() for each in (pixels, scale, offset))
        weights = None if weights is None else weights.to(torch.float32).contiguous()
        rows, columns = (
            None if taps is None else Taps(*(part.contiguous() for part in taps)) for taps in (rows, columns)
        )
        resample(pixels, rows, columns, shape_in, scale, offset, weights, members, found)
    return found


def _in_c(
    pixels: torch.Tensor,
    rows: Taps | None,
    columns: Taps | None,
    shape_in: tuple[int, int, int],
    scale: torch.Tensor,
    offset: torch.Tensor,
    weights: torch.Tensor | None,
    members: int,
    found: torch.Tensor,
) -> None:
    n, channels, h, w = found.shape
    threads = max(1, min(torch.get_num_threads(), n))
    of_rows, of_columns = _axis(rows, shape_in[1], h), _axis(columns, shape_in[2], w)
    # A line of an image, its lines with their columns moved, and two images that are mixed.
    room = shape_in[2] + shape_in[1] * w + 2 * channels * h * w
    scratch = torch.empty((threads, room), dtype=torch.float32, device="cpu")
    _library().resample(
        pixels.data_ptr(),
        found.data_ptr(),
        n,
        channels,
        ctypes.addressof(of_rows),
        ctypes.addressof(of_columns),
        scale.data_ptr(),
        offset.data_ptr(),
        math.prod(shape_in) // len(scale),
        None if weights is None else weights.data_ptr(),
        n // members,
        scratch.data_ptr(),
        room,
        threads,
    )


def _in_torch(
    pixels: torch.Tensor,
    rows: Taps | None,
    columns: Taps | None,
    shape_in: tuple[int, int, int],
    scale: torch.Tensor,
    offset: torch.Tensor,
    weights: torch.Tensor | None,
    members: int,
    found: torch.Tensor,
) -> None:
    """Do what the compiled code does, sum by sum."""
    at_once = max(1, _NUMBERS // found[0].numel())
    for first in range(0, len(pixels), at_once):
        some = slice(first, first + at_once)
        images = pixels[some].to(torch.float32).view(-1, len(scale), math.prod(shape_in) // len(scale))
        images = images.mul_(scale).add_(offset).view(-1, *shape_in)
        images = _along(images.mT, columns, some).mT
        found[some] = _along(images, rows, some)
    if weights is not None:
        weights = weights[:, None, None, None]
        others = found.unflatten(0, (members, -1)).roll(1, dims=1).flatten(0, 1)
        found.mul_(weights).add_(others.mul_(1 - weights))


def _along(images: torch.Tensor, taps: Taps | None, some: slice) -> torch.Tensor:
    """Move the rows of images, shape (n, C, H, W)."""
    if taps is None:
        return images
    n, channels, height, width = images.shape
    starts, weights = taps if len(taps.starts) == 1 else (part[some] for part in taps)
    firsts = torch.arange(0, n * channels * height, height, device="cpu").view(n, channels, 1) + starts[:, None]
    lines, found = images.reshape(-1, width), None
    for index in range(weights.shape[1]):
        part = lines.index_select(0, (firsts + index).view(-1)).view(n, channels, -1, width)
        part.mul_(weights[:, index][:, None, :, None])
        found = part if found is None else found.add_(part)
    return found


def _axis(taps: Taps | None, size_in: int, size_out: int) -> _Axis:
    if taps is None:
        return _Axis(None, None, 1, 0, size_in, size_out)
    starts, weights = taps
    return _Axis(starts.data_ptr(), weights.data_ptr(), weights.shape[1], int(len(starts) > 1), size_in, size_out)


@cache
def _library() -> ctypes.CDLL | None:
    library = compiled(Path(__file__).with_suffix(".c"))
    if library is not None:
        pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
        library.resample.restype = None
        library.resample.argtypes = [
            *(pointer, pointer, size, size),
            *(pointer, pointer),
            *(pointer, pointer, size),
            *(pointer, size),
            *(pointer, size, ctypes.c_int),
        ]
    return library
