"""The bytes of a batch, on the device: from images that are kept there, or read while the device computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mlptheory.data.image_source import Images, is_streamed
from mlptheory.data.prefetch import prefetched

_AHEAD = 2


class ResidentPixels:
    """All images on the device.

    Parameters
    ----------
    images : Tensor of uint8 or ImageSource, shape (N, C, H, W)
    permutation : Tensor of int64, shape (C * H * W,), or None
        Of the numbers of each image, done once and for all.
    device : torch.device
    """

    def __init__(self, images: Images, permutation: torch.Tensor | None, device: torch.device) -> None:
        whole = images[:] if is_streamed(images) else images
        flat = whole.reshape(len(whole), -1)
        self._images = (flat if permutation is None else flat[:, permutation]).to(device)

    def batches(self, parts: Sequence[np.ndarray], in_order: bool = False) -> Iterator[torch.Tensor]:
        """Yield the bytes of each array of indices, shape (n, C * H * W); consecutive ones are not copied."""
        for examples in parts:
            if in_order:
                yield self._images[int(examples[0]) : int(examples[-1]) + 1]
            else:
                chosen = torch.from_numpy(examples).to(self._images.device)
                yield self._images.index_select(0, chosen)


class StreamedPixels:
    """Images that are read by another thread and sent to the device, a few batches ahead.

    Parameters are those of `ResidentPixels`; the permutation is done batch by batch, on the device.
    """

    def __init__(self, images: Images, permutation: torch.Tensor | None, device: torch.device) -> None:
        self._images, self._device = images, device
        self._permutation = None if permutation is None else permutation.to(device)

    def batches(self, parts: Sequence[np.ndarray], in_order: bool = False) -> Iterator[torch.Tensor]:
        """Yield the bytes of each array of indices, shape (n, C * H * W)."""
        for pixels in prefetched(self._read(parts), _AHEAD):
            yield pixels if self._permutation is None else pixels.index_select(1, self._permutation)

    def _read(self, parts: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        if is_streamed(self._images):
            found = self._images.batches(parts)
        else:
            found = (self._images.index_select(0, torch.from_numpy(examples)) for examples in parts)
        for images in found:
            yield images.flatten(1).to(self._device)
