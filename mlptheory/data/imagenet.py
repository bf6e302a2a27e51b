"""ImageNet-1k and ImageNet-21k, from what ``mlptheory data convert`` made of their folders."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlptheory.base import MissingDataError
from mlptheory.data.catalog import data_roots, load
from mlptheory.data.class_folder import TRAIN_FOLDERS

if TYPE_CHECKING:
    from mlptheory.data.dataset import Dataset

_KINDS = ("store", "beton")


@dataclass(frozen=True, kw_only=True)
class ImageFolders:
    """A dataset that comes as folders of image files, one for each class.

    Attributes
    ----------
    folders : tuple of str
        Names under a data root of the folder that holds train and the like.
    layout : str
        What is in it.
    home : str
        Where it can be had.
    """

    folders: tuple[str, ...]
    layout: str
    home: str


IMAGE_FOLDERS = {
    "imagenet": ImageFolders(
        folders=("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        layout="train/nXXXXXXXX/*.JPEG and val/nXXXXXXXX/*.JPEG",
        home="https://image-net.org/challenges/LSVRC/2012",
    ),
    "imagenet21k": ImageFolders(
        folders=("imagenet21k", "imagenet21k_resized"),
        layout="imagenet21k_train/nXXXXXXXX/*.JPEG and imagenet21k_val/nXXXXXXXX/*.JPEG",
        home="https://github.com/Alibaba-MIIL/ImageNet21K",
    ),
}
"""Datasets that are converted before they are loaded."""


def load_imagenet(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load ImageNet-1k (ILSVRC 2012) as it was converted; "test" is its validation set, in the order of the classes.

    Classes are WordNet identifiers in alphabetical order, as everywhere; how many there are is what the folder has.
    """
    return _load_converted("imagenet", split, root)


def load_imagenet21k(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load ImageNet-21k as it was converted, processed (Ridnik et al. 2021) or not: classes are what the folder has."""
    return _load_converted("imagenet21k", split, root)


def _load_converted(name: str, split: str, root: str | os.PathLike[str] | None) -> Dataset:
    places = data_roots(root)
    for _, place in places:
        for folder in (place / name, *([place.absolute()] if place.absolute().name == name else [])):
            for kind in _KINDS:
                if (folder / f"{split}.{kind}").exists():
                    return load(f"{kind}:{folder.absolute()}", split)
    looked = ", ".join(f"{label} ({place / name})" for label, place in places)
    known = IMAGE_FOLDERS[name]
    raise MissingDataError(
        f"dataset = {name!r}: no {split}.store or {split}.beton in {looked}; with {known.layout} (from {known.home}) "
        f"in a folder SOURCE type mlptheory data convert SOURCE --to store --resolution 64 --out FOLDER/{name}, and "
        "pass --data-root FOLDER (in Python root=FOLDER) or set MLPTHEORY_DATA=FOLDER"
    )


def find_image_folder(name: str, root: str | os.PathLike[str] | None) -> Path:
    """Return the folder under a data root that holds a dataset's image files.

    Raises
    ------
    MissingDataError
        Naming every place that was looked in.
    """
    known, places = IMAGE_FOLDERS[name], data_roots(root)
    for _, place in places:
        for folder in known.folders:
            if any((place / folder / train).is_dir() for train in TRAIN_FOLDERS):
                return place / folder
    looked = ", ".join(f"{label} ({place})" for label, place in places)
    raise MissingDataError(
        f"source = {name!r}: no folder {' or '.join(known.folders)} with {known.layout} in {looked}; get it from "
        f"{known.home} and pass --data-root FOLDER, or type mlptheory data convert SOURCE --out FOLDER/{name} with "
        "SOURCE being where it lies"
    )
