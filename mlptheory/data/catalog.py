"""Where datasets come from: an open list of names, and the folders in which their files are looked for."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from mlptheory.base import InputError, MissingDataError, Registry, unknown_name

if TYPE_CHECKING:
    from mlptheory.data.dataset import Dataset


class _Datasets(Registry):
    """Datasets by name, and files by "KIND:NAME"."""

    def __getitem__(self, name: str) -> Any:
        kind, place = _kind_and_place(name)
        return super().__getitem__(name) if kind is None else functools.partial(files[kind], place)

    def __contains__(self, name: object) -> bool:
        return _kind_and_place(name)[0] is not None or super().__contains__(name)

    def summary(self, name: str) -> str:
        """Return the one line that describes an entry, or files of a kind, without loading it."""
        kind, _ = _kind_and_place(name)
        return super().summary(name) if kind is None else files.summary(kind)


def _kind_and_place(name: object) -> tuple[str | None, str]:
    """Return the parts of "KIND:NAME", if the kind is one of files."""
    kind, separator, place = str(name).partition(":")
    return (kind if separator and kind in files else None), place


datasets = _Datasets("dataset")
"""Datasets by name. Add your own with ``@datasets.register("mine")`` on a function (split, root) -> Dataset."""

datasets.register_lazily(
    "digits",
    "mlptheory.data.digits:load_digits",
    summary="scikit-learn's 8x8 handwritten digits, 10 classes, 1,197 + 600 images; embedded, nothing to download",
)
datasets.register_lazily(
    "cifar10",
    "mlptheory.data.cifar:load_cifar10",
    summary="CIFAR-10: 32x32 color images, 10 classes, 50,000 + 10,000 images; from the official files",
)
datasets.register_lazily(
    "cifar100",
    "mlptheory.data.cifar:load_cifar100",
    summary="CIFAR-100, fine labels: 32x32 color images, 100 classes, 50,000 + 10,000 images; from the official files",
)
datasets.register_lazily(
    "teacher",
    "mlptheory.data.teacher:load_teacher",
    summary="4x4 random bits labeled by a known logistic law, 2 classes, 65,536 + 8,192 images; nothing to download",
)
datasets.register_lazily(
    "edges",
    "mlptheory.data.edges:load_edges",
    summary="8x8 textures with sharp edges on a torus, two correlation lengths, 32,768 + 4,096 images; drawn",
)
datasets.register_lazily(
    "edges-gaussian",
    "mlptheory.data.edges:load_edges_gaussian",
    summary="Gaussian textures of the covariances of edges, class by class, 32,768 + 4,096 images; drawn",
)
datasets.register_lazily(
    "digits-0-4",
    "mlptheory.data.digits:load_lower_digits",
    summary="the digits 0 to 4 of digits, 5 classes, 600 + 301 images: to pretrain on, for transfer in small; embedded",
)
datasets.register_lazily(
    "digits-5-9",
    "mlptheory.data.digits:load_upper_digits",
    summary="the digits 5 to 9 of digits, 5 classes, 597 + 299 images: to transfer to; embedded",
)
datasets.register_lazily(
    "stl10",
    "mlptheory.data.stl10:load_stl10",
    summary="STL-10, labeled: 96x96 color images, 10 classes, 5,000 + 8,000 images; from the official files",
)
datasets.register_lazily(
    "tinyimagenet",
    "mlptheory.data.tinyimagenet:load_tinyimagenet",
    summary="Tiny ImageNet: 64x64 color images, 200 classes, 100,000 + 10,000 (labeled validation); official files",
)

datasets.register_lazily(
    "imagenet",
    "mlptheory.data.imagenet:load_imagenet",
    summary="ImageNet-1k (ILSVRC 2012): color images, 1,000 classes, 1.28 million + 50,000 (validation); converted",
)
datasets.register_lazily(
    "imagenet21k",
    "mlptheory.data.imagenet:load_imagenet21k",
    summary="ImageNet-21k, processed: color images, about 12 million of 11,000 classes; converted",
)

SPLITS = ("train", "test")

files = Registry("dataset")
"""How "KIND:NAME" is loaded, by kind: functions (NAME, split, root) -> Dataset."""

files.register_lazily(
    "store",
    "mlptheory.data.store:load_store",
    summary="stored images: NAME is a folder under a data root, or an absolute path, with train.store and test.store",
)
files.register_lazily(
    "beton",
    "mlptheory.data.beton:load_beton",
    summary="FFCV's files: NAME is a folder under a data root, or an absolute path, with train.beton and test.beton",
)


def load(name: str, split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a registered dataset.

    Parameters
    ----------
    name : str
        One of `datasets`: "digits", "cifar10", "cifar100", "teacher" and others, or a user's own. Or "store:NAME" for
        stored images, NAME being a folder under a data root, or an absolute path, with train.store and test.store.
    split : {"train", "test"}
        The official split; a validation set is carved out of "train" by `split_validation`.
    root : path-like, optional
        Folder to look in first; then come ``$MLPTHEORY_DATA`` and the platform's cache folder.

    Returns
    -------
    Dataset
        All of it, in the order of its files.

    Raises
    ------
    InputError
        If the name or the split is unknown.
    MissingDataError
        If the files are in none of the folders; the message names all of them and what to type.
    DamagedFileError
        If a file is there but is not what it should be.

    Examples
    --------
    >>> load("digits", "train")
    Dataset('digits', 'train', 1197 images of shape (1, 8, 8), 10 classes)
    """
    source = datasets[name]
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    loaded = source(split, root)

    from mlptheory.data.dataset import Dataset

    if not isinstance(loaded, Dataset):
        raise InputError(f"dataset = {name!r}: its loader returned {type(loaded).__name__}: expected a Dataset")
    return loaded


def data_roots(root: str | os.PathLike[str] | None = None) -> list[tuple[str, Path]]:
    """Return the folders in which data are looked for, in order, each with its name for messages.

    Examples
    --------
    >>> [label for label, folder in data_roots("here")][0]
    '--data-root'
    """
    roots = [] if root is None else [("--data-root", Path(root).expanduser())]
    if environment := os.environ.get("MLPTHEORY_DATA"):
        roots.append(("$MLPTHEORY_DATA", Path(environment).expanduser()))
    roots.append(("the cache folder", platformdirs.user_cache_path("mlptheory")))
    return roots


def find_folder(name: str, folders: tuple[str, ...], root: str | os.PathLike[str] | None, source: str) -> Path:
    """Return the first of the folders that exists, directly under a data root or as the root itself.

    Parameters
    ----------
    name : str
        The dataset, for the message.
    folders : tuple of str
        Names of the folder, in order of preference.
    root : path-like or None
        As for `load`.
    source : str
        Address from which the data can be had.

    Raises
    ------
    MissingDataError
        Naming every place that was looked in and what to type.
    """
    roots = data_roots(root)
    for _, place in roots:
        for folder in folders:
            if (place / folder).is_dir():
                return place / folder
            if place.absolute().name == folder and place.is_dir():
                return place.absolute()
    looked = ", ".join(f"{label} ({place})" for label, place in roots)
    raise MissingDataError(
        f"dataset = {name!r}: no folder {' or '.join(folders)} in {looked}; type mlptheory data get {name} "
        f"(in Python mlptheory.data.download({name!r})); or get it from {source}, unpack it, "
        f"and pass --data-root FOLDER (in Python root=FOLDER) or set MLPTHEORY_DATA=FOLDER, "
        f"FOLDER being where {folders[0]} lies"
    )
