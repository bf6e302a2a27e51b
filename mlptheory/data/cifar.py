"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the official files, in their binary or their Python form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlptheory.base import DamagedFileError
from mlptheory.data.catalog import find_folder
from mlptheory.data.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES
from mlptheory.data.dataset import Dataset
from mlptheory.data.pickles import read_pickle

_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class _Format:
    """How one of the two datasets is laid out on disk."""

    name: str
    classes: tuple[str, ...]
    binary_folder: str
    python_folder: str
    files: dict[str, tuple[str, ...]]
    binary_suffix: str
    examples_per_file: dict[str, int]
    label_key: str
    label_bytes: int  # bytes of labels before each binary image; the last of them is ours


_CIFAR10 = _Format(
    name="cifar10",
    classes=CIFAR10_CLASSES,
    binary_folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    binary_suffix=".bin",
    examples_per_file={"train": 10_000, "test": 10_000},
    label_key="labels",
    label_bytes=1,
)
_CIFAR100 = _Format(
    name="cifar100",
    classes=CIFAR100_CLASSES,
    binary_folder="cifar-100-binary",
    python_folder="cifar-100-python",
    files={"train": ("train",), "test": ("test",)},
    binary_suffix=".bin",
    examples_per_file={"train": 50_000, "test": 10_000},
    label_key="fine_labels",
    label_bytes=2,
)


def load_cifar10(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-10 from ``cifar-10-batches-bin`` or ``cifar-10-batches-py``; see `mlptheory.data.load`."""
    return _load(_CIFAR10, split, root)


def load_cifar100(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load CIFAR-100, fine labels, from ``cifar-100-binary`` or ``cifar-100-python``; see `mlptheory.data.load`."""
    return _load(_CIFAR100, split, root)


def _load(layout: _Format, split: str, root: str | os.PathLike[str] | None) -> Dataset:
    folder = find_folder(layout.name, (layout.binary_folder, layout.python_folder), root, _SOURCE)
    binary = folder.name == layout.binary_folder
    parts = []
    for file in layout.files[split]:
        path = folder / (file + layout.binary_suffix if binary else file)
        if not path.is_file():
            raise DamagedFileError(f"{path}: missing, while its folder is there: unpack {layout.name} again")
        examples = layout.examples_per_file[split]
        if binary:
            parts.append(read_binary(path, examples, layout.label_bytes, len(layout.classes)))
        else:
            parts.append(read_python(path, examples, layout.label_key, len(layout.classes)))
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return Dataset(
        images=torch.from_numpy(images).reshape(-1, *_SHAPE),
        labels=torch.from_numpy(labels),
        classes=layout.classes,
        name=layout.name,
        split=split,
    )


def read_binary(path: Path, examples: int, label_bytes: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one binary file: per example the label bytes, the last of which counts, then 3072 pixels.

    Parameters
    ----------
    path : Path
        The file.
    examples : int
        How many it must hold.
    label_bytes : int
        1 for CIFAR-10, 2 (coarse, fine) for CIFAR-100.
    num_classes : int
        Labels are below it.

    Returns
    -------
    images : ndarray of uint8, shape (examples, 3072)
    labels : ndarray of int64, shape (examples,)

    Raises
    ------
    DamagedFileError
        If the size is another, or a label is out of range.
    """
    expected, found = examples * (label_bytes + _PIXELS), path.stat().st_size
    if found != expected:
        raise DamagedFileError(f"{path}: expected {expected} bytes, found {found}")
    rows = np.fromfile(path, dtype=np.uint8).reshape(examples, label_bytes + _PIXELS)
    return np.ascontiguousarray(rows[:, label_bytes:]), _labels(path, rows[:, label_bytes - 1].tolist(), num_classes)


def read_python(path: Path, examples: int, label_key: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one pickled file: "data" of shape (examples, 3072) and a list of labels.

    Parameters
    ----------
    path : Path
        The file.
    examples : int
        How many it must hold.
    label_key : str
        "labels" for CIFAR-10, "fine_labels" for CIFAR-100.
    num_classes : int
        Labels are below it.

    Returns
    -------
    images : ndarray of uint8, shape (examples, 3072)
    labels : ndarray of int64, shape (examples,)

    Raises
    ------
    DamagedFileError
        If the file is no such pickle; see `mlptheory.data.pickles.read_pickle`.
    """
    pixels = examples * _PIXELS
    # Python 3 writes bytes as UTF-8 text, up to 2 bytes each; labels and file names take at most 100 bytes an example.
    content = read_pickle(path, smallest=pixels, largest=2 * pixels + 100 * examples + 10_000)
    images, labels = content.get("data"), content.get(label_key)
    if not isinstance(images, np.ndarray) or images.shape != (examples, _PIXELS):
        shape = images.shape if isinstance(images, np.ndarray) else type(images).__name__
        raise DamagedFileError(
            f"{path}: expected 'data' of {pixels} bytes, shape ({examples}, {_PIXELS}), found {shape}"
        )
    if not isinstance(labels, list) or len(labels) != examples or not all(type(label) is int for label in labels):
        count = len(labels) if isinstance(labels, list) else type(labels).__name__
        raise DamagedFileError(f"{path}: expected {label_key!r} with {examples} integers, found {count}")
    return np.ascontiguousarray(images), _labels(path, labels, num_classes)


def _labels(path: Path, labels: Sequence[int], num_classes: int) -> np.ndarray:
    wrong = next((label for label in (min(labels), max(labels)) if not 0 <= label < num_classes), None)
    if wrong is not None:
        raise DamagedFileError(f"{path}: expected labels from 0 to {num_classes - 1}, found {wrong}")
    return np.asarray(labels, dtype=np.int64)
