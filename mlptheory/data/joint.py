"""Batches of several runs that share their images, made as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch

from mlptheory.data.loader import Batch, Loader, _Draws
from mlptheory.data.resampling import Taps
from mlptheory.data.sending import sent


class JointLoader:
    """The batches of several siblings, one member's examples after another's, as one batch each.

    Parameters
    ----------
    loaders : sequence of Loader
        `Loader.sibling` makes them: they share all but seed and labels, and shuffle.

    Examples
    --------
    >>> from mlptheory.data import Loader, load
    >>> first = Loader(load("digits", "train"), batch_size=500)
    >>> joint = JointLoader([first, first.sibling(first.dataset, seed=1)])
    >>> [len(batch.targets) for batch in joint.batches(epoch=0)]
    [1000, 1000, 394]
    """

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self.loaders = tuple(loaders)
        self._labels = torch.stack([loader._labels for loader in self.loaders]).view(-1)
        n = len(self.loaders[0].dataset)
        self._offsets = n * torch.arange(len(self.loaders), device=self._labels.device)[:, None]

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.loaders[0])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input."""
        return self.loaders[0].input_shape

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the joint batches of an epoch, from batch `start` on.

        Parameters
        ----------
        epoch, start : int
            As for `Loader.batches`.

        Yields
        ------
        Batch
            Of M·B examples, B of each of the M members.
        """
        first = self.loaders[0]
        orders = np.stack([loader.order(epoch) for loader in self.loaders])
        weights = [loader._weights_of_epoch(epoch) for loader in self.loaders]
        parts = [first._cut(orders, index) for index in range(start, len(self))]
        with closing(first._pixels.batches([part.reshape(-1) for part in parts])) as images:
            for index, examples, pixels in zip(range(start, len(self)), parts, images, strict=True):
                draws = [
                    loader._draw(epoch, index, *own)
                    for loader, *own in zip(self.loaders, examples, weights, strict=True)
                ]
                chosen = sent(examples, first.device)
                own_labels = (chosen + self._offsets).reshape(-1)
                yield first._assemble(
                    chosen.reshape(-1),
                    pixels,
                    self._labels.index_select(0, own_labels),
                    _joined(draws, examples.shape[1]),
                    members=len(self.loaders),
                )


def _joined(draws: Sequence[_Draws], size: int) -> _Draws:
    """Put the draws of several members, of `size` examples each, one after another."""
    rows, columns, weights, noise = zip(*draws, strict=True)
    return _Draws(
        _joined_matrices(rows, size),
        _joined_matrices(columns, size),
        None if weights[0] is None else np.concatenate(weights),
        None if noise[0] is None else torch.cat(noise),
    )


def _joined_matrices(matrices: Sequence[torch.Tensor | Taps | None], size: int) -> torch.Tensor | Taps | None:
    if matrices[0] is None:
        return None
    if isinstance(matrices[0], Taps):
        parts = zip(*(one.expand(size) for one in matrices), strict=True)
        return Taps(*(torch.cat(part) for part in parts))
    return torch.cat([one.expand(size, -1, -1) for one in matrices])
