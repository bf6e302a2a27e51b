"""What a dataset is: images, labels and the names of the classes, checked once at the door."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json, sha256
from mlptheory.data.image_source import Images, ImageSource, Selection, chunks, is_streamed


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labeled images, in memory or read when they are asked for.

    Parameters
    ----------
    images : Tensor of uint8 or ImageSource, shape (N, C, H, W)
        Pixels from 0 to 255.
    labels : Tensor of int64, shape (N,)
        Indices into `classes`.
    classes : tuple of str
        Names of the classes.
    name : str
        Where the images come from, as `load` knows it.
    split : str
        Which part of it they are: "train", "validation" or "test".
    label_sets : tuple of frozenset of int, or None
        For each image all classes that are right (ReaL), none where no class is; None where they are not known. They
        are no part of the digest.

    Raises
    ------
    InputError
        If a shape or dtype is another, a label is out of range, one of a set too, there is no example, or there
        are not as many sets.

    Examples
    --------
    >>> pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    >>> dataset = Dataset(images=pixels, labels=torch.tensor([0, 1]), classes=("a", "b"), name="mine", split="train")
    >>> len(dataset), dataset.num_classes, dataset.image_shape
    (2, 2, (1, 4, 4))
    """

    images: Images
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str
    split: str
    label_sets: tuple[frozenset[int], ...] | None = None

    def __post_init__(self) -> None:
        where = f"dataset {self.name!r}, split {self.split!r}"
        images, labels = self.images, self.labels
        if not isinstance(images, torch.Tensor | ImageSource) or images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(f"{where}: images = {_describe(images)}: expected a uint8 tensor of shape (N, C, H, W)")
        if min(images.shape) < 1:
            raise InputError(f"{where}: images = {_describe(images)}: expected at least one example and one pixel")
        if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise InputError(
                f"{where}: labels = {_describe(labels)}: expected an int64 tensor of shape ({len(images)},)"
            )
        object.__setattr__(self, "classes", tuple(self.classes))
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise InputError(
                f"{where}: labels run from {low} to {high}: expected 0 to {len(self.classes) - 1} "
                f"for {len(self.classes)} classes"
            )

        if self.label_sets is not None and len(self.label_sets) != len(labels):
            raise InputError(f"{where}: label_sets = {len(self.label_sets)} sets: expected {len(labels)} or None")
        # In one go, as there may be millions.
        right = set().union(*self.label_sets or ())
        if right and not 0 <= min(right) <= max(right) < len(self.classes):
            raise InputError(
                f"{where}: label_sets run from {min(right)} to {max(right)}: expected 0 to {len(self.classes) - 1} "
                f"for {len(self.classes)} classes"
            )

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | torch.Tensor | Sequence[int],
        *,
        classes: Sequence[str] | None = None,
        name: str = "mine",
        split: str = "train",
    ) -> Dataset:
        """Make a dataset of arrays in memory.

        Parameters
        ----------
        images : ndarray or Tensor of uint8, shape (N, C, H, W), (N, H, W, C) or (N, H, W)
            Pixels from 0 to 255. Of four axes the one of length 1 or 3 is that of the channels, where only one of the
            second and the last is so long.
        labels : ndarray, Tensor or sequence of integers, shape (N,)
            From 0.
        classes : sequence of str, optional
            Their names; their numbers, up to the largest label, if left out.
        name, split : str
            As of the dataset.

        Raises
        ------
        InputError
            If they are not so.

        Examples
        --------
        >>> import numpy as np
        >>> Dataset.from_arrays(np.zeros((2, 8, 8, 3), dtype=np.uint8), [0, 1], name="black")
        Dataset('black', 'train', 2 images of shape (3, 8, 8), 2 classes)
        """
        pixels, numbers = np.asarray(images), np.asarray(labels)
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise InputError(f"labels = {numbers.dtype} array of shape {numbers.shape}: expected integers, shape (N,)")
        names = map(str, range(int(numbers.max(initial=0)) + 1)) if classes is None else classes
        return cls(
            images=torch.from_numpy(_channels_second(pixels)),
            labels=torch.from_numpy(numbers.astype(np.int64)),
            classes=tuple(names),
            name=name,
            split=split,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {self.split!r}, {len(self)} images of shape {self.image_shape}, "
            f"{self.num_classes} classes)"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has an example."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def is_streamed(self) -> bool:
        """Whether the images are read when they are asked for rather than kept in memory."""
        return is_streamed(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, classes, images and labels: equal data have equal digests, wherever they came from."""
        header = canonical_json({"shape": list(self.images.shape), "classes": list(self.classes)})
        hashed = hashlib.sha256(header.encode())
        for part in chunks(self.images, "digest"):
            hashed.update(part.cpu().contiguous().numpy().data)
        hashed.update(self.labels.cpu().numpy().astype("<i8").data)
        return hashed.hexdigest()

    @cached_property
    def identity(self) -> str:
        """A digest to tell datasets apart by, of which no image is read where that can be avoided.

        Unlike those of `digest`, two that differ may be of equal data.
        """
        # Whether the digest is known by now has no say: a run that is resumed asks in another order.
        known = self.images.identity if self.is_streamed else None
        if known is None:
            return self.digest
        labels = sha256(self.labels.cpu().numpy().astype("<i8").tobytes())
        return sha256(canonical_json([known, list(self.images.shape), list(self.classes), labels]))

    def select(self, examples: torch.Tensor, split: str | None = None) -> Dataset:
        """Return the given examples, in the given order, as a dataset.

        Parameters
        ----------
        examples : Tensor of int64, shape (n,)
            Their indices.
        split : str, optional
            Name of the part that they form; this dataset's own if left out.

        Returns
        -------
        Dataset
            A copy of images that are in memory; others are read where and when they were.
        """
        images = Selection(self.images, examples) if is_streamed(self.images) else self.images[examples]
        sets = None if self.label_sets is None else tuple(self.label_sets[index] for index in examples.tolist())
        return dataclasses.replace(
            self, images=images, labels=self.labels[examples], split=split or self.split, label_sets=sets
        )


def _channels_second(pixels: np.ndarray) -> np.ndarray:
    """Return images as (N, C, H, W), contiguous and with memory of their own kind."""
    found = f"images = {pixels.dtype} array of shape {pixels.shape}"
    if pixels.dtype != np.uint8:
        raise InputError(f"{found}: expected uint8, pixels from 0 to 255")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4:
        raise InputError(f"{found}: expected (N, C, H, W), (N, H, W, C) or (N, H, W)")
    first, last = pixels.shape[1] in (1, 3), pixels.shape[3] in (1, 3)
    if first == last:
        raise InputError(
            f"{found}: expected 1 or 3 channels, either before or behind the two sides; Dataset takes others"
        )
    ordered = np.ascontiguousarray(pixels if first else pixels.transpose(0, 3, 1, 2))
    return ordered if ordered.flags.writeable else ordered.copy()


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
