"""Images in FFCV's .beton files, decoded by FFCV when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mlptheory.base import InputError, MissingDataError, invalid
from mlptheory.base.configuration import require_integer
from mlptheory.data.beton_labels import read_labels
from mlptheory.data.beton_layout import JPEG, BetonLayout, read_layout
from mlptheory.data.beton_note import read_note_beside
from mlptheory.data.catalog import SPLITS, data_roots
from mlptheory.data.dataset import Dataset
from mlptheory.data.ffcv_decoding import decode_images, memory_of
from mlptheory.data.ffcv_library import most_workers, require_ffcv
from mlptheory.data.image_source import ChannelSums, ImageSource

# What is decoded at once stays in a core's cache until it is in its place.
_PART_BYTES = 2**20
_SCRATCH_BYTES = 2**26


def open_beton(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    resolution: int | None = None,
    classes: Sequence[str] | int | None = None,
    name: str | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a .beton file, written by `write_beton` or by anyone, with the fields "image" and "label".

    Pixels are those that FFCV decodes: exactly what was written where they are stored raw, and what libjpeg-turbo's
    fast transform makes of them where they are stored as JPEG, which is not what Pillow makes of the same bytes.

    Parameters
    ----------
    path : path-like
        The file. What `write_beton` wrote beside it, at ``PATH.json``, must be that of the same file if it is there.
    workers : int, optional
        Threads that decode; the images do not depend on it. If left out one, or one per core if any image is JPEG.
    resolution : int, optional
        Height and width, by FFCV's resizing (OpenCV's area interpolation) of the largest centered square. If left
        out, images are taken as they are, and must be of one size.
    classes : sequence of str or int, optional
        Names or number of the classes, where no names are written beside; if left out numbers up to the largest label.
    name, split : str, optional
        Of the dataset, where none are written beside; if left out the file's name and "train".

    Returns
    -------
    Dataset
        Its images are read when they are asked for. Where the file has lists of labels (ReaL), they are its
        `label_sets`; if no label for each image is written beside, a warning says that the first of each list, or 0
        where it is empty, stands for it.

    Raises
    ------
    MissingDataError
        If there is no such file.
    InputError
        If the package ffcv is not installed, fields are missing or of other types, or images are of several sizes.
    DamagedFileError
        If the file, or what is written beside it, is not what it should be. A JPEG image that cannot be
        decompressed is found when it is read.

    Examples
    --------
    >>> open_beton("nowhere.beton")
    Traceback (most recent call last):
    mlptheory.base.errors.MissingDataError: path = 'nowhere.beton': expected a .beton file, found none
    """
    layout = read_layout(path)
    note = read_note_beside(layout)
    if workers is not None:
        require_integer("workers", workers, 1)
    if resolution is not None:
        require_integer("resolution", resolution, 1)
    require_ffcv(f"path = {str(path)!r}")
    if workers is not None and workers > most_workers():
        raise invalid("workers", workers, f"an integer from 1 to {most_workers()}, the threads that numba has here")
    found = read_labels(layout)
    labels = found
    if note is not None and note.labels is not None:
        labels = np.array(note.labels, dtype=np.int64)
    elif isinstance(found, list):
        labels = np.array([row[0] if row else 0 for row in found], dtype=np.int64)
        warnings.warn(
            f"{layout.path}: labels are lists: the first of each, or 0 where there is none, stands for its label",
            stacklevel=2,
        )
    sums = None if note is None or resolution is not None else note.sums
    dataset = Dataset(
        images=BetonImages(layout, workers=workers, resolution=resolution, sums=sums),
        labels=torch.from_numpy(labels),
        classes=note.classes if note else _classes(layout, classes, found),
        name=note.name if note else name or layout.path.stem,
        split=note.split if note else split or "train",
        label_sets=tuple(map(frozenset, found)) if isinstance(found, list) else None,
    )
    if note is not None and resolution is None:
        # A dataset of other labels or other images is another object, and computes its own.
        dataset.__dict__["digest"] = dataset.__dict__["identity"] = note.digest
    return dataset


def is_of_one_size(layout: BetonLayout) -> bool:
    """Return whether all images have the same height and width."""
    image = layout.entry("image")
    return all((image[side] == image[side][0]).all() for side in ("height", "width"))


def load_beton(name: str, split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Open ``NAME/SPLIT.beton`` under a data root; see `mlptheory.data.load`.

    Raises
    ------
    MissingDataError
        Naming every place that was looked in.
    """
    if not name:
        raise invalid("dataset", "beton:", "beton:NAME, where NAME is a folder with train.beton and test.beton")
    places = list(dict.fromkeys(place / name for _, place in data_roots(root)))
    for place in places:
        path = place / f"{split}.beton"
        if path.is_file():
            return open_beton(path, classes=_classes_of_splits(place), name=f"beton:{name}", split=split)
    looked = ", ".join(str(place / f"{split}.beton") for place in places)
    raise MissingDataError(
        f"dataset = {'beton:' + name!r}: no file {looked}; pass --data-root FOLDER (in Python root=FOLDER) or set "
        f"MLPTHEORY_DATA=FOLDER, FOLDER being where {name} lies"
    )


def _classes_of_splits(folder: Path) -> int | None:
    """Return the number of classes of a folder's files where none has names: a split may lack an example of some."""
    layouts = [read_layout(path) for split in SPLITS if (path := folder / f"{split}.beton").is_file()]
    if any(read_note_beside(layout) is not None for layout in layouts):
        return None
    require_ffcv(f"path = {str(folder)!r}")
    return max(_largest(read_labels(layout)) for layout in layouts) + 1


def _classes(
    layout: BetonLayout, classes: Sequence[str] | int | None, labels: np.ndarray | list[list[int]]
) -> tuple[str, ...]:
    largest = _largest(labels)
    if classes is None:
        classes = largest + 1
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if largest >= len(names):
        raise InputError(f"path = {str(layout.path)!r}: labels run to {largest}: expected 0 to {len(names) - 1}")
    return names


def _largest(labels: np.ndarray | list[list[int]]) -> int:
    return max((label for row in labels for label in row), default=0) if isinstance(labels, list) else int(labels.max())


class BetonImages(ImageSource):
    """The images of a .beton file.

    Parameters
    ----------
    layout : BetonLayout
    workers, resolution : int, optional
        As for `open_beton`.
    sums : ChannelSums, optional
        Known sums over all images.

    Raises
    ------
    InputError
        If the images are of several sizes and there is no resolution; both ends of the sizes are named.
    """

    def __init__(
        self,
        layout: BetonLayout,
        *,
        workers: int | None = None,
        resolution: int | None = None,
        sums: ChannelSums | None = None,
    ) -> None:
        image = layout.entry("image")
        heights, widths = (image[side].astype(np.int64) for side in ("height", "width"))
        if resolution is None and not is_of_one_size(layout):
            raise InputError(
                f"path = {str(layout.path)!r}: images of heights {heights.min()} to {heights.max()} and widths "
                f"{widths.min()} to {widths.max()}: expected one size, or a resolution to which they are brought"
            )
        size = (int(heights[0]), int(widths[0])) if resolution is None else (resolution, resolution)
        self.shape = (layout.samples, 3, *size)
        self.workers = workers or (most_workers() if (image["mode"] == JPEG).any() else 1)
        self._layout, self._memory, self._sums = layout, memory_of(layout), sums
        self._scratch_bytes = 0 if resolution is None else 3 * int((heights * widths).max())
        part = _PART_BYTES // (3 * size[0] * size[1])
        if self._scratch_bytes:
            part = min(part, _SCRATCH_BYTES // self._scratch_bytes)
        self._part = max(part, self.workers)

    def __getitem__(self, examples: slice | torch.Tensor) -> torch.Tensor:
        """Return some images, uint8 of shape (n, 3, H, W)."""
        if isinstance(examples, slice):
            return self._read(np.arange(*examples.indices(len(self))))
        return self._read(examples.numpy())

    def batches(self, index_arrays: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the images of each array of indices; no thread outlives a batch but numba's own."""
        return map(self._read, index_arrays)

    def channel_sums(self) -> ChannelSums | None:
        """Return the sums that were written beside the file."""
        return self._sums

    def _read(self, examples: np.ndarray) -> torch.Tensor:
        # Compiled code looks up whatever it is given.
        if len(examples) and not 0 <= examples.min() <= examples.max() < len(self):
            raise IndexError(f"examples from {examples.min()} to {examples.max()}: expected 0 to {len(self) - 1}")
        images = torch.empty((len(examples), *self.shape[1:]), dtype=torch.uint8)
        pixels = np.empty((min(self._part, len(examples)), *self.shape[2:], 3), np.uint8)
        scratch = np.empty((len(pixels), self._scratch_bytes), np.uint8)
        for start in range(0, len(examples), self._part):
            part = np.ascontiguousarray(examples[start : start + self._part], dtype=np.int64)
            place = slice(0, len(part))
            decode_images(self._layout, self._memory, part, pixels[place], scratch[place], self.workers)
            images[start : start + len(part)] = torch.from_numpy(pixels[place]).permute(0, 3, 1, 2)
        return images
