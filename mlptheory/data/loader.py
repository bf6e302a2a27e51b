"""Seeded batches: the same seed gives the same batches wherever one starts and whatever the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import closing
from typing import Literal, NamedTuple

import numpy as np
import torch

from mlptheory.base import InputError, invalid, unknown_name
from mlptheory.base.random import torch_generator
from mlptheory.data.augmentation import Augmentation
from mlptheory.data.batch import Batch, BatchShard
from mlptheory.data.dataset import Dataset
from mlptheory.data.image_source import is_streamed
from mlptheory.data.mixup import draw_mixup, mixed
from mlptheory.data.normalization import Normalization
from mlptheory.data.operators import apply_operator
from mlptheory.data.orders import ORDERS
from mlptheory.data.permutation import pixel_permutation
from mlptheory.data.resampling import Taps, resampled
from mlptheory.data.residence import ResidentPixels, StreamedPixels
from mlptheory.data.sending import sent
from mlptheory.data.sharding import Shard, shard, share
from mlptheory.data.spatial import RandomOperators


class _Draws(NamedTuple):
    """What is done at random to the examples of one batch: operators on rows and columns, MixUp's weights, noise."""

    rows: torch.Tensor | Taps | None
    columns: torch.Tensor | Taps | None
    weights: np.ndarray | None
    noise: torch.Tensor | None


class Loader:
    """Cut a dataset into seeded batches.

    The images stay on the device as bytes, or are read batch by batch ahead of their use; the batches are the same
    to the last bit. An image is normalized, then cropped and resized, flipped, shifted,
    mixed with its partner and permuted, in this order; what a shift brings in from outside is therefore the
    channel's mean. Order, crops, flips and shifts are keyed by (seed, epoch, example); MixUp by (seed, epoch,
    batch), or by (seed, epoch, example) where the augmentation's `mixup_per` is "example"; noise by (seed, epoch,
    batch). All are drawn on the CPU.

    Parameters
    ----------
    dataset : Dataset
        What to load.
    batch_size : int
        Examples per batch, from 1 to ``len(dataset)``; the last batch of an epoch is smaller where it does not divide.
    seed : int
        Of the run.
    augmentation : Augmentation, optional
        What is done at random; nothing if left out.
    normalization : Normalization, optional
        Pixels in [0, 1] as they are, if left out.
    image_size : int, optional
        Height and width of the inputs, by antialiased resizing; the dataset's own if left out.
    pixel_permutation : int, optional
        Seed of a fixed permutation of all numbers of an image; none if left out.
    permute : {"after", "before"}
        Whether the permutation comes last, as a change of coordinates of the network's input, or before the
        resizing and the augmentation, which then no longer know what is where.
    shuffle : bool
        Whether each epoch has its own random order, or that of the dataset.
    drop_last : bool
        Whether a smaller last batch is left out.
    order : {"random", "quasi-random"}
        What a shuffled epoch is: a uniformly random order, or one that reads a file in blocks (`quasi_random_order`).
    resident : bool, optional
        Whether all images are kept on the device; if left out, where the dataset has them in memory. Else they are
        read, a few batches ahead, by a thread that ends with the epoch or with its reader.
    device : str or torch.device
        Where the batches are made.
    dtype : torch.dtype
        Of the inputs.

    Raises
    ------
    InputError
        If an argument is not as described; a batch size larger than the dataset is named with the dataset's size.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> loader = Loader(load("digits", "train"), batch_size=500)
    >>> len(loader), [len(batch.targets) for batch in loader.batches(epoch=0)]
    (3, [500, 500, 197])
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        normalization: Normalization | None = None,
        image_size: int | None = None,
        pixel_permutation: int | None = None,
        permute: Literal["after", "before"] = "after",
        shuffle: bool = True,
        drop_last: bool = False,
        order: Literal["random", "quasi-random"] = "random",
        resident: bool | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        channels, height, width = dataset.image_shape
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise invalid("batch_size", batch_size, f"an integer from 1 to {len(dataset)}")
        if batch_size > len(dataset):
            raise InputError(
                f"batch_size = {batch_size}: larger than the training set of {len(dataset)} examples: "
                f"expected an integer from 1 to {len(dataset)}"
            )
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise invalid("dtype", dtype, "a floating-point torch.dtype")
        if permute not in ("after", "before"):
            raise unknown_name("permute", permute, ("after", "before"))
        if order not in ORDERS:
            raise unknown_name("order", order, ORDERS)
        if resident is not None and not isinstance(resident, bool):
            raise invalid("resident", resident, "true, false or None")
        if image_size is not None and (
            isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1
        ):
            raise invalid("image_size", image_size, "an integer of at least 1, in pixels, or None")
        if normalization is not None and len(normalization.mean) != channels:
            raise invalid("normalization", normalization, f"one mean and std for each of {channels} channels")
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self.shuffle, self.drop_last = shuffle, drop_last
        self.device, self.dtype = torch.device(device), dtype
        size = (height, width) if image_size is None else (image_size, image_size)
        self.input_shape = (channels, *size)
        self._operators = RandomOperators(
            self.augmentation,
            (height, width),
            size,
            seed=seed,
            device=self.device,
            dtype=dtype,
            sparse=self.device.type == "cpu" and dtype == torch.float32 and not self.augmentation.as_noise,
        )
        self._resizing = RandomOperators(
            Augmentation(), (height, width), size, seed=seed, device=self.device, dtype=dtype
        )
        self._mixes = self.augmentation.mixup_per if self.augmentation.mixup else None
        self._moves = self.augmentation.moves_pixels or size != (height, width)
        self._order = ORDERS[order]
        self._labels = dataset.labels.to(self.device)
        self._scale, self._offset = self._affine(normalization)
        self._process: tuple[int, int] | None = None
        self._permutation, early = None, None
        if pixel_permutation is not None:
            early = self._permute(pixel_permutation, early=permute == "before" or not self._moves)
        streamed = is_streamed(dataset.images) if resident is None else not resident
        self._pixels = (StreamedPixels if streamed else ResidentPixels)(dataset.images, early, self.device)

    def _affine(self, normalization: Normalization | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and offset that take a flat image of bytes to normalized numbers, shape (C, 1) each."""
        channels = self.dataset.image_shape[0]
        normalization = normalization or Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)
        mean = torch.tensor(normalization.mean, dtype=torch.float64)
        std = torch.tensor(normalization.std, dtype=torch.float64)
        scale, offset = 1 / (255 * std), -mean / std
        return tuple(value.to(self.dtype).to(self.device)[:, None] for value in (scale, offset))

    def _permute(self, seed: int, early: bool) -> torch.Tensor | None:
        """Prepare the permutation of the inputs, or return that of the bytes where nothing random comes before it."""
        if not early:
            self._permutation = pixel_permutation(seed, self.input_shape).to(self.device)
            return None
        permutation = pixel_permutation(seed, self.dataset.image_shape)
        channel_size = len(permutation) // len(self._scale)
        on_device = permutation.to(self.device)
        self._scale = self._scale.repeat_interleave(channel_size, dim=0)[on_device]
        self._offset = self._offset.repeat_interleave(channel_size, dim=0)[on_device]
        return permutation

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of all examples in the order of an epoch, an ndarray of int64 of shape (N,)."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._order(self.seed, epoch, len(self.dataset))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        start : int
            First batch to yield; its bits are those of the whole epoch's.

        Yields
        ------
        Batch
            On the device.

        Raises
        ------
        InputError
            If `epoch` is negative or `start` is beyond the epoch's end.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch < 0:
            raise invalid("epoch", epoch, "an integer of at least 0")
        if not 0 <= start <= len(self):
            raise invalid("start", start, f"an integer from 0 to {len(self)}, the batches of an epoch")
        return self._epoch(int(epoch), start)

    def sibling(self, dataset: Dataset, seed: int) -> Loader:
        """Return a loader of the same images under other labels and another seed, which shares their memory."""
        other = copy.copy(self)
        other.dataset, other.seed = dataset, seed
        other._labels = dataset.labels.to(self.device)
        other._operators = self._operators.reseeded(seed)
        return other

    def shard(self, rank: int, world: int) -> Loader:
        """Return a loader of one process's rows of every batch, which shares the images' memory.

        Parameters
        ----------
        rank, world : int
            Number of the process, from 0, and how many there are.

        Returns
        -------
        Loader
            Its batches are those rows of this one's batches that `mlptheory.data.shard` says, all draws included: of
            MixUp's partners too, which may be another process's rows. Of a world of one, whole batches.

        Examples
        --------
        >>> from mlptheory.data import load
        >>> loader = Loader(load("digits", "train"), batch_size=500).shard(1, 2)
        >>> [(batch.first, len(batch.targets), batch.logical_size) for batch in loader.batches(epoch=0)]
        [(250, 250, 500), (250, 250, 500), (98, 99, 197)]
        """
        shard(0, rank, world)
        other = copy.copy(self)
        other._process = None if world == 1 else (rank, world)
        return other

    def _epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        order, weights = self.order(epoch), self._weights_of_epoch(epoch)
        cuts = [self._cut(order, index) for index in range(start, len(self))]
        shares = [self._share(len(examples)) for examples in cuts]
        parts = [examples if mine is None else examples[mine.made] for examples, mine in zip(cuts, shares, strict=True)]
        in_order = not self.shuffle and self._process is None
        with closing(self._pixels.batches(parts, in_order)) as images:
            for index, pixels in zip(range(len(parts)), images, strict=True):
                chosen = sent(parts[index], self.device)
                targets = self._labels.index_select(0, chosen)
                draws = self._draw(epoch, start + index, cuts[index], weights, shares[index])
                made = self._assemble(chosen, pixels, targets, draws)
                yield made if shares[index] is None else _own(made, shares[index], len(cuts[index]))

    def rows(self, size: int) -> slice:
        """Return which rows of a logical batch of this size are made here."""
        return slice(0, size) if self._process is None else shard(size, *self._process)

    def _share(self, size: int) -> Shard | None:
        """Return what this process makes of a batch; None if it is all."""
        if self._process is None:
            return None
        return share(size, *self._process, mixed=self._mixes is not None, whole=self.augmentation.as_noise)

    def _cut(self, order: np.ndarray, index: int) -> np.ndarray:
        """Return the examples of one batch of an epoch, or of each row of orders."""
        return order[..., index * self.batch_size : (index + 1) * self.batch_size]

    def _weights_of_epoch(self, epoch: int) -> np.ndarray | None:
        """Draw the MixUp weights of all examples, where each has its own."""
        return self._mixup_weights(epoch, 0, np.arange(len(self.dataset))) if self._mixes == "example" else None

    def _draw(
        self, epoch: int, index: int, examples: np.ndarray, weights: np.ndarray | None, mine: Shard | None = None
    ) -> _Draws:
        """Draw what is done to the examples of one batch, or a share of them; `weights` are those of the epoch."""
        size = len(examples)
        examples = examples if mine is None else examples[mine.made]
        rows, columns = self._operators.draw(epoch, examples) if self._moves else (None, None)
        noise = self._noise_weights(epoch, index, size) if self.augmentation.as_noise else None
        if self._mixes == "batch":
            return _Draws(rows, columns, self._mixup_weights(epoch, index, examples), noise)
        return _Draws(rows, columns, None if weights is None else weights[examples], noise)

    def _noise_weights(self, epoch: int, batch: int, size: int) -> torch.Tensor:
        """Draw what each displacement of a batch weighs in each image's noise, shape (1, B, B)."""
        drawn = torch_generator(self.seed, "augmentation noise", epoch, batch)
        weights = torch.randn((1, size, size), generator=drawn, dtype=torch.float64) / math.sqrt(size)
        return sent(weights.to(self.dtype), self.device)

    def _mixup_weights(self, epoch: int, batch: int, examples: np.ndarray) -> np.ndarray:
        augmentation = self.augmentation
        return draw_mixup(
            self.seed, epoch, batch, examples, len(self.dataset), augmentation.mixup, augmentation.mixup_per
        )

    def _assemble(
        self, chosen: torch.Tensor, pixels: torch.Tensor, targets: torch.Tensor, draws: _Draws, members: int = 1
    ) -> Batch:
        """Make inputs of pixels; of several members, one after another, each mixes its own."""
        n = len(chosen)
        mix = partners = None
        if draws.weights is not None:
            # Losses are weighted in at least float32, whatever the inputs are stored in.
            mix = torch.from_numpy(draws.weights).to(torch.promote_types(self.dtype, torch.float32))
            mix = sent(mix, self.device)
            partners = targets.view(members, -1).roll(1, dims=1).view(n)
        inputs = self._inputs(pixels, draws, None if mix is None else mix.to(self.dtype), members)
        if self._permutation is not None:
            inputs = inputs.view(n, -1).index_select(1, self._permutation).view(-1, *self.input_shape)
        return Batch(inputs, targets, partners, mix, chosen)

    def _inputs(self, pixels: torch.Tensor, draws: _Draws, weights: torch.Tensor | None, members: int) -> torch.Tensor:
        """Make normalized, moved and mixed images of bytes."""
        if self._operators.sparse:
            return resampled(
                pixels,
                draws.rows,
                draws.columns,
                shape_in=self.dataset.image_shape,
                shape_out=self.input_shape,
                scale=self._scale,
                offset=self._offset,
                weights=weights,
                members=members,
            )
        inputs = self._moved(pixels, draws)
        if draws.noise is not None:
            inputs = self._with_noise(self._normalized(pixels), inputs, draws.noise)
        return inputs if weights is None else mixed(inputs, weights, members)

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        inputs = pixels.to(self.dtype).view(len(pixels), len(self._scale), -1).mul_(self._scale).add_(self._offset)
        return inputs.view(-1, *self.dataset.image_shape)

    def _moved(self, pixels: torch.Tensor, draws: _Draws) -> torch.Tensor:
        """Normalize and move the pixels of the images of a batch."""
        inputs = self._normalized(pixels)
        return apply_operator(inputs, draws.rows, draws.columns) if self._moves else inputs

    def _with_noise(self, images: torch.Tensor, moved: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Add noise of the displacements' second moment to the images as evaluation sees them; each member its own."""
        plain = apply_operator(images, *self._resizing.draw(0, np.arange(len(images))))
        displacements = (moved - plain).reshape(len(weights), -1, plain[0].numel())
        return plain + (weights @ displacements).view_as(plain)


def _own(made: Batch, mine: Shard, size: int) -> BatchShard:
    """Return the rows of a logical batch of a size that are a process's own, of those that it made."""
    own = Batch(*(None if value is None else value[mine.kept] for value in made))
    return BatchShard(own, mine.rows.start, size)
