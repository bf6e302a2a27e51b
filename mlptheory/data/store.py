"""Stored images: a folder with bytes, labels and what is known of them, opened without being read."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import torch

from mlptheory.base import DamagedFileError, InputError, MissingDataError, invalid
from mlptheory.base.files import sha256, sync_folder, write_atomically
from mlptheory.data.catalog import data_roots
from mlptheory.data.dataset import Dataset
from mlptheory.data.locks import alone
from mlptheory.data.mapped_images import ChannelSums, MappedImages
from mlptheory.data.normalization import channel_sums, summed_channels
from mlptheory.data.store_note import NOTE, StoreNote, read_note, unreadable

IMAGES, LABELS = "images.bin", "labels.bin"
SUFFIX = ".store"


def open_store(path: str | os.PathLike[str]) -> Dataset:
    """Open stored images; only what is known of them and the labels are read.

    Parameters
    ----------
    path : path-like
        The folder, as `StoreWriter` wrote it.

    Returns
    -------
    Dataset
        Its images are a memory map, its digest and the sums behind `channel_statistics` those that were stored.
        Writing to the images changes this process's memory only, and no batch of a `Loader`, which reads the file.

    Raises
    ------
    MissingDataError
        If there is no such folder.
    DamagedFileError
        If a file is missing, its size does not fit, or labels or what is known are not as they were written.
        Pixels are not read: `verify_store` does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with StoreWriter(Path(folder, "train.store"), classes=("a",), name="mine", split="train") as writer:
    ...         writer.append(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 0]))
    ...         path = writer.finish()
    ...     open_store(path)
    Dataset('mine', 'train', 2 images of shape (3, 4, 4), 1 classes)
    """
    folder = Path(path)
    note = read_note(folder)
    labels = _labels(folder, note)
    try:
        images = MappedImages.of_file(folder / IMAGES, note.shape, note.sums, note.digest)
    except OSError as error:
        raise unreadable(folder / IMAGES, error) from error
    dataset = Dataset(
        images=images,
        labels=labels,
        classes=note.classes,
        name=note.name,
        split=note.split,
        label_sets=note.label_sets,
    )
    # A dataset of other labels or other images is another object, and computes its own.
    dataset.__dict__["digest"] = dataset.__dict__["identity"] = note.digest
    return dataset


def verify_store(path: str | os.PathLike[str]) -> Dataset:
    """Open stored images and read all of them: their digest and their sums must be those that were stored.

    Parameters
    ----------
    path : path-like
        The folder.

    Raises
    ------
    DamagedFileError
        If they are not, and as `open_store` does.
    """
    opened = open_store(path)
    # A copy knows nothing and computes.
    found = dataclasses.replace(opened).digest, summed_channels(opened.images)
    if found != (opened.digest, opened.images.channel_sums()):
        raise DamagedFileError(f"{Path(path) / IMAGES}: its bytes are not those that were written")
    return opened


def load_store(name: str, split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Open ``NAME/SPLIT.store`` under a data root; see `mlptheory.data.load`.

    Raises
    ------
    MissingDataError
        Naming every place that was looked in.
    """
    places = [place / name / f"{split}.store" for _, place in data_roots(root)] if name else []
    for place in dict.fromkeys(places):
        if place.is_dir():
            return open_store(place)
    if not name:
        raise invalid("dataset", "store:", "store:NAME, where NAME is a folder with train.store and test.store")
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise MissingDataError(
        f"dataset = {'store:' + name!r}: no folder {looked}; pass --data-root FOLDER (in Python root=FOLDER) or set "
        f"MLPTHEORY_DATA=FOLDER, FOLDER being where {name} lies"
    )


def _labels(folder: Path, note: StoreNote) -> torch.Tensor:
    path = folder / LABELS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) != 8 * note.shape[0]:
        raise DamagedFileError(f"{path}: expected {8 * note.shape[0]} bytes, found {len(content)}")
    if sha256(content) != note.labels_digest:
        raise DamagedFileError(f"{path}: its bytes are not those that were written")
    return torch.from_numpy(np.frombuffer(content, dtype="<i8").astype(np.int64))


class StoreWriter:
    """Write images and labels, part by part, to a folder that is there when all of it is.

    Used in a ``with`` statement; left without `finish`, killed or out of disk, it leaves no folder of that name. What
    a killed writer leaves beside is removed by the next one. A second writer of the same folder waits for the first.

    Parameters
    ----------
    path : path-like
        The folder to be, with a name that ends in ".store"; nothing may be there, and its parent must.
    classes : sequence of str
        Names of the classes.
    name, split : str
        As of a `Dataset`.
    source : str, optional
        Where the images come from.

    Raises
    ------
    InputError
        If the name is another, or something is there already.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with StoreWriter(Path(folder, "test.store"), classes=("a", "b"), name="mine", split="test") as writer:
    ...         for label in range(2):
    ...             writer.append(np.full((3, 1, 2, 2), label, dtype=np.uint8), np.full(3, label))
    ...         path = writer.finish(unreadable=["b/7.png"])
    ...     len(open_store(path)), read_note(path).unreadable
    (6, ('b/7.png',))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        classes: Sequence[str],
        name: str,
        split: str,
        source: str | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != SUFFIX:
            raise invalid("path", str(path), f"a name that ends in {SUFFIX}")
        self.classes, self.name, self.split, self.source = tuple(classes), name, split, source
        self._beside = self.path.with_name(f".{self.path.name}.part")
        self._labels: list[np.ndarray] = []
        self._image_shape: tuple[int, int, int] | None = None
        self._sums = None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Begin, alone."""
        with ExitStack() as held:
            held.enter_context(alone(self.path.with_name(f".{self.path.name}.lock")))
            if self.path.exists():
                raise invalid("path", str(self.path), "a place where nothing is")
            shutil.rmtree(self._beside, ignore_errors=True)
            self._beside.mkdir()
            held.callback(shutil.rmtree, self._beside, ignore_errors=True)
            self._file = held.enter_context((self._beside / IMAGES).open("wb"))
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing beside."""
        self._held.close()

    def __len__(self) -> int:
        """Images so far."""
        return sum(len(labels) for labels in self._labels)

    def append(self, images: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor) -> None:
        """Write some more images.

        Parameters
        ----------
        images : ndarray or Tensor of uint8, shape (n, C, H, W)
        labels : ndarray or Tensor of int64, shape (n,)

        Raises
        ------
        InputError
            If they are not so, a label is out of range, or the shape of an image is not that of those before.
        OSError
            If the disk is full.
        """
        part = Dataset(
            images=_tensor(images),
            labels=_tensor(labels),
            classes=self.classes,
            name=self.name,
            split=self.split,
        )
        if self._image_shape not in (None, part.image_shape):
            raise invalid("images", part.image_shape, f"images of shape {self._image_shape}, as those before")
        self._file.write(part.images.cpu().contiguous().numpy().data)
        self._image_shape = part.image_shape
        self._labels.append(part.labels.cpu().numpy().astype("<i8"))
        self._sums = add_sums(self._sums, channel_sums(part.images))

    def finish(self, *, label_sets: Iterable[Collection[int]] | None = None, unreadable: Iterable[str] = ()) -> Path:
        """Read the images back for their digest, make all durable and give the folder its name.

        Parameters
        ----------
        label_sets : iterable of collections of int, optional
            For each image all classes that are right (ReaL).
        unreadable : iterable of str
            Files of the source that were left out.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InputError
            If there are no images, not as many sets of labels, or a label of one is out of range.
        OSError
            If the disk is full.
        """
        if self._sums is None:
            raise InputError(f"path = {str(self.path)!r}: expected at least one image")
        labels = np.concatenate(self._labels)
        sets = None if label_sets is None else tuple(frozenset(map(int, each)) for each in label_sets)
        if sets is not None and len(sets) != len(labels):
            raise InputError(f"label_sets = {len(sets)} sets: expected {len(labels)}, one for each image")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        note = StoreNote(
            shape=(len(labels), *self._image_shape),
            classes=self.classes,
            name=self.name,
            split=self.split,
            digest=self._digest(labels, sets),
            sums=self._sums,
            labels_digest=sha256(labels.tobytes()),
            label_sets=sets,
            source=self.source,
            unreadable=tuple(unreadable),
        )
        write_atomically(self._beside / LABELS, labels.tobytes())
        write_atomically(self._beside / NOTE, note.to_json())
        self._beside.rename(self.path)
        sync_folder(self.path.parent)
        return self.path

    def _digest(self, labels: np.ndarray, sets: tuple[frozenset[int], ...] | None) -> str:
        """Return the digest of what is on the disk; it begins with the number of images, which is known at the end."""
        images = MappedImages.of_file(self._beside / IMAGES, (len(labels), *self._image_shape))
        return Dataset(
            images=images,
            labels=torch.from_numpy(labels.astype(np.int64)),
            classes=self.classes,
            name=self.name,
            split=self.split,
            label_sets=sets,
        ).digest


def _tensor(values: np.ndarray | torch.Tensor) -> torch.Tensor:
    # torch warns of arrays that may not be written to.
    is_locked = isinstance(values, np.ndarray) and not values.flags.writeable
    return torch.as_tensor(values.copy() if is_locked else values)


def add_sums(known: ChannelSums | None, more: ChannelSums) -> ChannelSums:
    """Add the sums of more images to what is known so far."""
    if known is None:
        return more
    sums, squares = (tuple(map(sum, zip(*pair, strict=True))) for pair in zip(known, more, strict=True))
    return sums, squares
