"""What a dataset is: images, labels and the names of the classes, checked once at the door."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

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

    Raises
    ------
    InputError
        If a shape or dtype is another, a label is out of range or there is no example.

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
        known = self.images.identity if self.is_streamed else None
        if known is None or "digest" in self.__dict__:
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
        return dataclasses.replace(self, images=images, labels=self.labels[examples], split=split or self.split)


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return type(value).__name__
