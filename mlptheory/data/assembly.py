"""Inputs made of a batch's bytes: normalized, moved, mixed; on a CPU some images at a time, which stay in the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Of one part: with what is made of them on the way they fit into a core's cache.
_NUMBERS = 2**19

Making = Callable[[slice], torch.Tensor]


def mixed(images: torch.Tensor, weights: torch.Tensor, members: int = 1) -> torch.Tensor:
    """Mix each image with the one before it, the first of each member with the member's last.

    Parameters
    ----------
    images : Tensor, shape (M·B, C, H, W)
        Those of M members, one after another's.
    weights : Tensor, shape (M·B,)
        Of the image itself; the one before it has the rest.
    members : int
        M.

    Returns
    -------
    Tensor, shape (M·B, C, H, W)
    """
    others = images.unflatten(0, (members, -1)).roll(1, dims=1).flatten(0, 1)
    return torch.lerp(others, images, weights[:, None, None, None])


def made_in_parts(make: Making, shape: torch.Size, weights: torch.Tensor | None, members: int = 1) -> torch.Tensor:
    """Return what `make` makes of all images, mixed, with the bits of ``mixed(make(slice(None)), weights, members)``.

    Parameters
    ----------
    make : callable
        From a slice of the batch to images, each of which depends on itself only.
    shape : Size (M·B, C, H, W)
        Of all of them.
    weights, members
        Those of `mixed`; nothing is mixed where the weights are None.
    """
    size = max(1, _NUMBERS // shape[1:].numel())
    each = shape[0] // members
    found: torch.Tensor | None = None
    for begin in range(0, shape[0], each):
        first = before = None
        for start in range(begin, begin + each, size):
            rows = slice(start, min(start + size, begin + each))
            images = make(rows)
            if found is None:
                found = images.new_empty(shape)
            if weights is None:
                found[rows] = images
                continue
            if before is None:
                # Its partner is not made yet.
                first = before = images[:1].clone()
            others = torch.cat([before, images[:-1]])
            torch.lerp(others, images, weights[rows, None, None, None], out=found[rows])
            before = images[-1:].clone()
        if weights is not None:
            torch.lerp(before, first, weights[begin : begin + 1, None, None, None], out=found[begin : begin + 1])
    return found
