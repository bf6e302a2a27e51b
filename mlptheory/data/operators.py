r"""Crops, resizes, flips and shifts as the matrices that they are.

An operator on images is a pair of small matrices, :math:`R_y` (h, H) for the rows and :math:`R_x` (w, W) for the
columns; it maps each channel to :math:`R_y \, \mathrm{image} \, R_x^\top`. A batch of operators, one for each image,
has shape (B, h, H). Doing one operator after another is the product of their matrices, the later one on the left.
"""

from __future__ import annotations

import math

import torch

from mlptheory.base import invalid


def apply_operator(images: torch.Tensor, rows: torch.Tensor | None, columns: torch.Tensor | None) -> torch.Tensor:
    r"""Apply :math:`R_y \, \mathrm{image} \, R_x^\top` to every channel of every image.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Floating point.
    rows : Tensor, shape (B, h, H), (1, h, H) or (h, H), or None
        :math:`R_y`, one per image or one for all; None leaves the rows as they are.
    columns : Tensor, shape (B, w, W), (1, w, W) or (w, W), or None
        :math:`R_x`, likewise.

    Returns
    -------
    Tensor, shape (B, C, h, w)
        Contiguous.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> apply_operator(image, None, flip_matrix(2))
    tensor([[[[1., 0.],
              [3., 2.]]]])
    """
    batch, channels, height, width = images.shape
    rows, columns = _batched("rows", rows, batch, height), _batched("columns", columns, batch, width)
    if columns is not None:
        flat = images.reshape(batch, channels * height, width)
        images = (flat @ columns.mT).reshape(batch, channels, height, columns.shape[1])
    if rows is not None:
        # One product per channel: broadcasting would copy the matrices once for each.
        images = torch.stack([rows @ images[:, channel] for channel in range(channels)], dim=1)
    return images.contiguous()


def _batched(name: str, matrix: torch.Tensor | None, batch: int, size: int) -> torch.Tensor | None:
    if matrix is None:
        return None
    matrix = matrix[None] if matrix.ndim == 2 else matrix
    if matrix.ndim != 3 or len(matrix) not in (1, batch) or matrix.shape[2] != size:
        raise invalid(f"{name}.shape", tuple(matrix.shape), f"(new, {size}) or ({batch} or 1, new, {size})")
    return matrix


def crop_resize_matrix(
    start: int | torch.Tensor,
    length: int | torch.Tensor,
    size_in: int,
    size_out: int,
    antialias: bool = True,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    r"""Crop to ``start .. start + length - 1``, then resize to `size_out` pixels with a triangle kernel.

    With scale :math:`s = \mathrm{length} / \mathrm{size\_out}`, output pixel i looks at :math:`c_i = s (i + 1/2)` in
    the crop, and pixel j of the crop weighs :math:`\max(0, 1 - |j + 1/2 - c_i| / r)`, divided by the sum over the
    crop; :math:`r = \max(1, s)`, or 1 without antialiasing. This is PyTorch's
    ``interpolate(mode="bilinear", align_corners=False, antialias=...)`` of the cropped image.

    Parameters
    ----------
    start, length : int, or Tensor of int64, shape (B,)
        The window, inside 0 .. `size_in`.
    size_in, size_out : int
        Pixels along this axis, before and after.
    antialias : bool
        Widen the kernel when shrinking, so that every pixel of the crop counts.
    dtype : torch.dtype
        Of the result; it is computed in float64.

    Returns
    -------
    Tensor, shape (size_out, size_in), or (B, size_out, size_in) for windows in tensors
        Rows sum to 1; columns outside the window are 0.

    Raises
    ------
    InputError
        If a window is empty or leaves the image, or a size is below 1.

    Examples
    --------
    >>> crop_resize_matrix(0, 4, size_in=6, size_out=2, antialias=False)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000, 0.0000, 0.0000]])
    """
    if size_out < 1 or size_in < 1:
        raise invalid("size_in, size_out", (size_in, size_out), "at least 1 pixel each")
    single = not isinstance(start, torch.Tensor) and not isinstance(length, torch.Tensor)
    device = next((value.device for value in (start, length) if isinstance(value, torch.Tensor)), None)
    starts, lengths = torch.broadcast_tensors(
        torch.atleast_1d(torch.as_tensor(start, device=device)),
        torch.atleast_1d(torch.as_tensor(length, device=device)),
    )
    if bool((lengths < 1).any() | (starts < 0).any() | (starts + lengths > size_in).any()):
        window = (start, length) if single else "a batch"
        raise invalid("(start, length)", window, f"windows of at least 1 pixel inside 0 .. {size_in}")
    firsts, weights = crop_resize_taps(starts, lengths, size_in, size_out, antialias)
    columns = firsts[:, :, None] + torch.arange(weights.shape[2], device=device)
    matrix = weights.new_zeros((len(starts), size_out, size_in)).scatter_(2, columns, weights).to(dtype)
    return matrix[0] if single else matrix


def crop_resize_taps(
    starts: torch.Tensor, lengths: torch.Tensor, size_in: int, size_out: int, antialias: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the few numbers in each row of the matrices of windows that are inside.

    Parameters
    ----------
    starts, lengths : Tensor of int64, shape (B,)
    size_in, size_out, antialias
        Those of `crop_resize_matrix`.

    Returns
    -------
    firsts : Tensor of int64, shape (B, size_out)
        The column of each row's first number.
    weights : Tensor of float64 (on MPS of float32), shape (B, size_out, K)
        The K numbers from there on, as many as a row has where the window is the whole axis.

    Examples
    --------
    >>> firsts, weights = crop_resize_taps(torch.tensor([1]), torch.tensor([4]), size_in=6, size_out=2)
    >>> firsts.tolist(), weights.shape
    ([[0, 0]], torch.Size([1, 2, 6]))
    """
    count = taps_in_a_row(size_in, size_out, antialias)
    # MPS has no float64; there float32 has to do.
    exact = torch.float32 if starts.device.type == "mps" else torch.float64
    own_starts, own_lengths = starts[:, None, None], lengths[:, None, None]
    scale = own_lengths.to(exact) / size_out
    reach = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    centers = scale * (torch.arange(size_out, dtype=exact, device=starts.device)[None, :, None] + 0.5)
    # No pixel before the first, and none that is `count` after it, has a weight.
    firsts = (own_starts + (centers - reach - 0.5).floor().to(torch.int64) + 1).clamp(0, size_in - count)
    pixels = firsts + torch.arange(count, device=starts.device) - own_starts
    weights = (1 - (pixels.to(exact) + 0.5 - centers).abs() / reach).clamp(min=0)
    weights = weights * ((pixels >= 0) & (pixels < own_lengths))
    return firsts[:, :, 0], weights / weights.sum(dim=2, keepdim=True)


def taps_in_a_row(size_in: int, size_out: int, antialias: bool = True) -> int:
    """Return how many pixels an output pixel of a resized window of up to `size_in` looks at, at most.

    Examples
    --------
    >>> taps_in_a_row(64, 64), taps_in_a_row(96, 64), taps_in_a_row(96, 64, antialias=False)
    (2, 3, 2)
    """
    return min(size_in, math.ceil(2 * max(1.0, size_in / size_out)) if antialias else 2)


def resize_matrix(
    size_in: int, size_out: int, antialias: bool = True, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Resize the whole axis: `crop_resize_matrix` of all of it.

    Parameters
    ----------
    size_in, size_out : int
        Pixels along this axis, before and after.
    antialias : bool
        Widen the kernel when shrinking, so that every pixel counts.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    Tensor, shape (size_out, size_in)
        Rows sum to 1.

    Raises
    ------
    InputError
        If a size is below 1.

    Examples
    --------
    >>> resize_matrix(2, 4)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]])
    """
    return crop_resize_matrix(0, size_in, size_in, size_out, antialias, dtype)


def crop_matrix(start: int, length: int, size_in: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Crop without resizing: rows ``start .. start + length - 1`` of the identity.

    Parameters
    ----------
    start, length : int
        The window in pixels, inside 0 .. `size_in`.
    size_in : int
        Pixels along this axis, before.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    Tensor, shape (length, size_in)
        Of zeros and ones.

    Raises
    ------
    InputError
        If the window is empty or leaves the image.

    Examples
    --------
    >>> crop_matrix(1, 2, size_in=4)
    tensor([[0., 1., 0., 0.],
            [0., 0., 1., 0.]])
    """
    return crop_resize_matrix(start, length, size_in, length, dtype=dtype)


def center_crop_matrix(size_in: int, size_out: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Crop the central `size_out` pixels, from ``(size_in - size_out) // 2`` on.

    Parameters
    ----------
    size_in, size_out : int
        Pixels along this axis, before and after.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    Tensor, shape (size_out, size_in)
        Of zeros and ones.

    Raises
    ------
    InputError
        If `size_out` is below 1 or above `size_in`.

    Examples
    --------
    >>> center_crop_matrix(4, 2)
    tensor([[0., 1., 0., 0.],
            [0., 0., 1., 0.]])
    """
    if not 1 <= size_out <= size_in:
        raise invalid("size_out", size_out, f"an integer from 1 to {size_in}, the size before")
    return crop_matrix((size_in - size_out) // 2, size_out, size_in, dtype)


def flip_matrix(size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Mirror the axis: pixel j goes to ``size - 1 - j``.

    Parameters
    ----------
    size : int
        Pixels along this axis.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    Tensor, shape (size, size)
        Of zeros and ones.

    Examples
    --------
    >>> flip_matrix(2)
    tensor([[0., 1.],
            [1., 0.]])
    """
    return torch.eye(size, dtype=dtype).flip(0)


def shift_matrix(offset: int, size: int, mode: str = "zero", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Move pixel j to j + offset.

    Parameters
    ----------
    offset : int
        Pixels; negative moves to lower indices.
    size : int
        Of the axis.
    mode : {"zero", "cyclic"}
        What comes in at the edge: zeros, or what went out at the other.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    Tensor, shape (size, size)
        Of zeros and ones.

    Raises
    ------
    InputError
        If the mode is unknown.

    Examples
    --------
    >>> shift_matrix(1, 3)
    tensor([[0., 0., 0.],
            [1., 0., 0.],
            [0., 1., 0.]])
    """
    if mode not in ("zero", "cyclic"):
        raise invalid("mode", mode, "'zero' or 'cyclic'")
    sources = torch.arange(size) - offset
    columns = torch.arange(size)
    if mode == "cyclic":
        sources = sources % size
    return (sources[:, None] == columns[None, :]).to(dtype)
