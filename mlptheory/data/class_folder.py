"""Folders of image files, a folder for each class: which splits, classes and files there are, in which order."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from mlptheory.base import InputError, invalid
from mlptheory.data.decoding import ENDINGS

TRAIN_FOLDERS = ("train", "imagenet21k_train")
TEST_FOLDERS = ("test", "val", "validation", "valid", "imagenet21k_val")

LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP)


class ImageFile(NamedTuple):
    """An image file: its path below the split's folder, with slashes; size in bytes, time in ns, label."""

    path: str
    size: int
    time: int
    label: int


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """One split: a folder with a folder of images for each class.

    Attributes
    ----------
    path : Path
    classes : tuple of str
        The classes' names, of which label i is the i-th; those of the training set, for every split.
    """

    path: Path
    classes: tuple[str, ...]

    def files(self) -> Iterator[ImageFile]:
        """Yield the images class by class, those of a class in the order of their paths, folders within it included.

        What begins with a dot is left out, and so is what does not end as an image does. Only one class is held in
        memory at a time.
        """
        for label, name in enumerate(self.classes):
            if (self.path / name).is_dir():
                yield from sorted(_images(self.path, name, label))


def find_splits(folder: Path) -> dict[str, ClassFolder]:
    """Return the splits of a folder: of train/ and test/ or val/ those that are there, or itself as "train".

    Parameters
    ----------
    folder : Path
        ``FOLDER/train/CLASS/*`` with ``FOLDER/test/CLASS/*`` or ``FOLDER/val/CLASS/*`` beside it, or
        ``FOLDER/CLASS/*``. The processed ImageNet-21k's imagenet21k_train and imagenet21k_val are known too. Where
        there are both, test comes before val.

    Returns
    -------
    dict of str to ClassFolder
        Of "train" and, where there is one, "test"; classes in the order of their names.

    Raises
    ------
    InputError
        If there is no such folder, no class in it, images beside the classes' folders, a class to test that is not
        one to train on, a class that looks like a split, or a class's name that is not in UTF-8.
    """
    if not folder.is_dir():
        raise invalid("source", str(folder), "a folder that exists, a registered dataset, a .store or a .beton")
    train = next((folder / name for name in TRAIN_FOLDERS if (folder / name).is_dir()), None)
    if train is None:
        classes = _classes(folder)
        _require_no_splits(folder, classes)
        return {"train": ClassFolder(path=folder, classes=classes)}
    classes = _classes(train)
    splits = {"train": ClassFolder(path=train, classes=classes)}
    tests = [folder / name for name in TEST_FOLDERS if (folder / name).is_dir()]
    if tests:
        # A test set without labels lies beside a validation set with them, in ImageNet's own layout.
        test = next((each for each in tests if any(child.is_dir() for child in each.iterdir())), tests[0])
        unknown = sorted(set(_classes(test)) - set(classes))
        if unknown:
            raise InputError(
                f"source = {str(test / unknown[0])!r}: expected a class of {train}, which has none so named"
            )
        splits["test"] = ClassFolder(path=test, classes=classes)
    return splits


def _classes(folder: Path) -> tuple[str, ...]:
    names, loose = [], []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.name.endswith(".store"):
            names.append(entry.name)
        elif _is_image(entry.name):
            loose.append(entry.name)
    if loose:
        raise InputError(
            f"source = {str(folder)!r}: holds {len(loose)} images that are in no class's folder, first "
            f"{min(loose)!r}: move each into a folder named as its class (of ImageNet's validation images, the "
            "development kit's ILSVRC2012_validation_ground_truth.txt or Kaggle's LOC_val_solution.csv say which)"
        )
    if not names:
        raise invalid("source", str(folder), "a folder for each class in it, with the class's images")
    for name in names:
        if not is_text(name):
            raise invalid("source", str(folder / name), "names of classes in UTF-8, as they are written down")
    return tuple(sorted(names))


def _require_no_splits(folder: Path, classes: tuple[str, ...]) -> None:
    """Refuse classes that are splits by another name, or without training images."""
    for name in classes:
        if name.lower() in (*TRAIN_FOLDERS, *TEST_FOLDERS) and any(each.is_dir() for each in (folder / name).iterdir()):
            raise InputError(
                f"source = {str(folder / name)!r}: holds folders as a split does, but beside it is none named "
                f"{' or '.join(TRAIN_FOLDERS)}: give the split itself as the source, or name the training images' so"
            )


def is_text(name: str) -> bool:
    """Return whether a file's name can be written down, which a name of any bytes cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _images(folder: Path, name: str, label: int) -> Iterator[ImageFile]:
    top = os.fspath(folder / name)
    for place, folders, files in os.walk(top, onerror=_raise):
        folders[:] = [each for each in folders if not each.startswith(".")]
        inner = name if place == top else f"{name}/{Path(place).relative_to(top).as_posix()}"
        for file in files:
            if _is_image(file) and not file.startswith("."):
                try:
                    found = os.stat(os.path.join(place, file))
                    yield ImageFile(f"{inner}/{file}", found.st_size, found.st_mtime_ns, label)
                except OSError as error:
                    # A link to nothing, or to itself, will be named as unreadable.
                    if error.errno not in LEADS_NOWHERE:
                        raise
                    yield ImageFile(f"{inner}/{file}", -1, 0, label)


def _raise(error: OSError) -> NoReturn:
    """Let no folder be passed over."""
    raise error


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS)
