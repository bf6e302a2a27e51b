"""The bytes of a batch, on the device: from images that are kept there, or read while the device computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache

import numpy as np
import torch

from mlptheory.data.image_source import Images, gathered, is_streamed, ordered
from mlptheory.data.prefetch import prefetched
from mlptheory.data.sending import sent

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
        whole = gathered(images) if is_streamed(images) else images
        flat = whole.reshape(len(whole), -1)
        self._images = (flat if permutation is None else flat[:, permutation]).to(device)

    def batches(self, parts: Sequence[np.ndarray], in_order: bool = False) -> Iterator[torch.Tensor]:
        """Yield the bytes of each array of indices, shape (n, C * H * W); consecutive ones are not copied."""
        for examples in parts:
            if in_order:
                yield self._images[int(examples[0]) : int(examples[-1]) + 1]
            else:
                chosen = sent(examples, self._images.device)
                yield self._images.index_select(0, chosen)


class StreamedPixels:
    """Images that are read by another thread and sent to the device, a few batches ahead.

    On a GPU they go from page-locked memory on a stream of their own, beside what is computed meanwhile.

    Parameters are those of `ResidentPixels`; the permutation is done batch by batch, on the device.
    """

    def __init__(self, images: Images, permutation: torch.Tensor | None, device: torch.device) -> None:
        self._images, self._device = images, device
        if device.type == "cuda" and device.index is None:
            # Which device that is, is a matter of the thread that asks.
            self._device = torch.device("cuda", torch.cuda.current_device())
        self._permutation = None if permutation is None else permutation.to(self._device)

    def batches(self, parts: Sequence[np.ndarray], in_order: bool = False) -> Iterator[torch.Tensor]:
        """Yield the bytes of each array of indices, shape (n, C * H * W)."""
        arriving = self._sent_to_gpu(parts) if self._device.type == "cuda" else self._sent(parts)
        with closing(prefetched(arriving, _AHEAD)) as ready:
            for pixels, has_arrived in ready:
                if has_arrived is not None:
                    now = torch.cuda.current_stream(self._device)
                    now.wait_event(has_arrived)
                    # Else its memory would be free for the copying stream while this one still reads it.
                    pixels.record_stream(now)
                yield pixels if self._permutation is None else pixels.index_select(1, self._permutation)

    def _sent(self, parts: Sequence[np.ndarray]) -> Iterator[tuple[torch.Tensor, None]]:
        for images in ordered(self._images, parts):
            yield images.flatten(1).to(self._device), None

    def _sent_to_gpu(self, parts: Sequence[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.cuda.Event]]:
        beside = _copying_stream(self._device)
        # A thread begins on the first GPU, and would take memory there.
        with torch.cuda.device(self._device):
            for images in ordered(self._images, parts, pinned=True):
                with torch.cuda.stream(beside):
                    pixels = images.flatten(1).to(self._device, non_blocking=True)
                    has_arrived = beside.record_event()
                yield pixels, has_arrived


@cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a GPU that batches come on; memory that was used on one is not used on another."""
    return torch.cuda.Stream(device)
