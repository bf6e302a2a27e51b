"""STL-10 (Coates, Ng & Lee 2011) from the official binary files: the labeled images, not the 100,000 unlabeled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from mlptheory.base import DamagedFileError
from mlptheory.data.catalog import find_folder
from mlptheory.data.dataset import Dataset

_SOURCE = "https://cs.stanford.edu/~acoates/stl10/"
_FOLDER = "stl10_binary"
_SIDE = 96
_EXAMPLES = {"train": 5_000, "test": 8_000}

# In the order of labels 1 to 10, as class_names.txt has them.
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def load_stl10(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the labeled images of STL-10 from ``stl10_binary``; see `mlptheory.data.load`.

    5,000 images to train and 8,000 to test, 96x96, 10 classes; the 10 folds of the training images, and the
    unlabeled images, are left alone.
    """
    folder = find_folder("stl10", (_FOLDER,), root, _SOURCE)
    images, labels = read_split(folder, split, _EXAMPLES[split])
    return Dataset(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=STL10_CLASSES,
        name="stl10",
        split=split,
    )


def read_split(folder: Path, split: str, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Read SPLIT_X.bin, per image its red, green and blue values, each column by column, and SPLIT_y.bin.

    Parameters
    ----------
    folder : Path
        Holds both.
    split : {"train", "test"}
    examples : int
        How many there must be.

    Returns
    -------
    images : ndarray of uint8, shape (examples, 3, 96, 96)
        Rows before columns.
    labels : ndarray of int64, shape (examples,)
        From 0; the file counts from 1.

    Raises
    ------
    DamagedFileError
        If a file is missing or of another size, a label is out of range, or the classes have other names.
    """
    images = _read_bytes(folder / f"{split}_X.bin", examples * 3 * _SIDE**2).reshape(-1, 3, _SIDE, _SIDE)
    path = folder / f"{split}_y.bin"
    labels = _read_bytes(path, examples)
    wrong = next((label for label in (labels.min(), labels.max()) if not 1 <= label <= len(STL10_CLASSES)), None)
    if wrong is not None:
        raise DamagedFileError(f"{path}: expected labels from 1 to {len(STL10_CLASSES)}, found {wrong}")
    names = folder / "class_names.txt"
    if names.is_file() and tuple(names.read_text(errors="replace").split()) != STL10_CLASSES:
        raise DamagedFileError(f"{names}: expected {', '.join(STL10_CLASSES)}")
    return np.ascontiguousarray(images.transpose(0, 1, 3, 2)), labels.astype(np.int64) - 1


def _read_bytes(path: Path, expected: int) -> np.ndarray:
    if not path.is_file():
        raise DamagedFileError(f"{path}: missing, while its folder is there: unpack stl10 again")
    found = path.stat().st_size
    if found != expected:
        raise DamagedFileError(f"{path}: expected {expected} bytes, found {found}")
    return np.fromfile(path, dtype=np.uint8)
