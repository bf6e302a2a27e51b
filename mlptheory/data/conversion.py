"""Any source of images made a store or a .beton file, once, before the training that reads it over and over."""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mlptheory.base import DamagedFileError, InputError, MissingDataError, invalid, unknown_name
from mlptheory.base.configuration import require_choice, require_integer, require_number
from mlptheory.base.files import canonical_json, writable_folder
from mlptheory.data.beton import is_of_one_size, open_beton
from mlptheory.data.beton_layout import read_layout
from mlptheory.data.beton_note import read_note_beside
from mlptheory.data.beton_writer import write_beton
from mlptheory.data.catalog import SPLITS, data_roots, datasets, files, load
from mlptheory.data.class_folder import TRAIN_FOLDERS, ClassFolder, find_splits, is_text
from mlptheory.data.dataset import Dataset
from mlptheory.data.decoding import resize_pixels
from mlptheory.data.ffcv_library import require_ffcv
from mlptheory.data.folder_conversion import FolderConversion, require_room, require_source, unreadable_names
from mlptheory.data.imagenet import IMAGE_FOLDERS, find_image_folder
from mlptheory.data.locks import alone
from mlptheory.data.real_labels import read_real_labels
from mlptheory.data.store import StoreWriter, open_store
from mlptheory.data.store_note import StoreNote, read_note

FORMATS = ("store", "beton")
_AT_ONCE = 1024

Splits = dict[str, ClassFolder | Callable[[], Dataset]]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a conversion made of one split.

    Attributes
    ----------
    path : Path
        The store, or the .beton file.
    split : {"train", "test"}
    shape : tuple of int
        (N, C, H, W).
    classes : int
    digest : str
        As of a `Dataset`.
    unreadable : tuple of str
        Files that were left out, each with the reason.
    seconds : float
        That this call took.
    """

    path: Path
    split: str
    shape: tuple[int, int, int, int]
    classes: int
    digest: str
    unreadable: tuple[str, ...]
    seconds: float


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: str = "store",
    resolution: int | None = None,
    workers: int | None = None,
    real: str | os.PathLike[str] | None = None,
    allow_unreadable: float = 0.01,
    data_root: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> tuple[Conversion, ...]:
    """Make stores, or .beton files, of a source's splits.

    Image files are decoded to a square of three channels: gray is repeated, the central square cropped and resized
    with Pillow's antialiased bilinear filter; see docs/getting_data.md for what becomes of other modes. The order is
    that of the classes' names, then of the files' paths. Killed at any moment, the same call goes on, and ends with
    the same bits, whatever the number of processes. Other datasets are read as they are and resized alike; they are
    small enough to begin anew. Image files are decoded by processes of their own, so a script calls this below
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    source : str or path-like
        A registered dataset; a folder ``SOURCE/{train, test or val}/CLASS/*`` or ``SOURCE/CLASS/*``; a .store, a
        .beton, or a folder with them.
    out : path-like, optional
        Folder for train.store and test.store (or .beton); NAME under the first data root, if left out.
    to : {"store", "beton"}
    resolution : int, optional
        Side of the images in pixels; needed for image files, others keep their own if it is left out.
    workers : int, optional
        Processes that decode image files; one for each core, if left out.
    real : path-like, optional
        Reassessed labels, real.json, of the test images in the order of their file names; they are stored.
    allow_unreadable : float
        Largest share of a split's files that may be unreadable. They are left out and named.
    data_root : path-like, optional
        Where datasets are looked for first.
    progress : bool
        Show bars.

    Returns
    -------
    tuple of Conversion
        One for each split; what is there already, of the same source, is left as it is.

    Raises
    ------
    InputError
        If an argument is not as described, there is no such source, `out` holds other images or is being written to,
        the disk has no room, or too many images are unreadable.
    ChildProcessError, OSError
        If a process dies, or the disk is full. What was decoded is kept.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = convert("digits", folder, resolution=16, progress=False)
    ...     load(f"store:{folder}", "test")
    Dataset('digits', 'test', 600 images of shape (1, 16, 16), 10 classes)
    >>> [(each.split, each.shape) for each in made]
    [('train', (1197, 1, 16, 16)), ('test', (600, 1, 16, 16))]
    """
    require_choice("to", to, FORMATS)
    if to == "beton":
        require_ffcv("to = 'beton'")
    if resolution is not None:
        require_integer("resolution", resolution, 1)
    if workers is not None:
        require_integer("workers", workers, 1)
    require_number("allow_unreadable", allow_unreadable, 0, 1, high_open=True)
    name, splits = _find(os.fspath(source), data_root, resolution)
    if not is_text(name):
        raise invalid("source", os.fspath(source), "a name in UTF-8, as it is written down")
    if real is not None and not isinstance(splits.get("test"), ClassFolder):
        raise invalid("real", os.fspath(real), "a source with image files to test on")
    if resolution is None and any(isinstance(each, ClassFolder) for each in splits.values()):
        raise invalid("resolution", None, "the side of the images in pixels, such as 64, as those of files have many")
    sets = None if real is None else read_real_labels(real)
    place = data_roots(data_root)[0][1] / name if out is None else Path(out)
    folder = writable_folder("out", place)
    job = _Job(
        name=name,
        folder=folder,
        resolution=resolution,
        workers=workers or _cores(),
        allow_unreadable=allow_unreadable,
        real_labels=sets,
        progress=progress,
    )
    # The smaller one first: what is wrong is found sooner.
    done = {split: job.convert(split, splits[split], to) for split in sorted(splits)}
    return tuple(done[split] for split in SPLITS if split in done)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same for both splits."""

    name: str
    folder: Path
    resolution: int | None
    workers: int
    allow_unreadable: float
    real_labels: tuple[frozenset[int], ...] | None
    progress: bool

    def convert(self, split: str, source: ClassFolder | Callable[[], Dataset], to: str) -> Conversion:
        began = time.perf_counter()
        target = self.folder / f"{split}.{to}"
        busy = InputError(f"out = {str(target)!r}: another process is converting to it: wait until it has ended")
        with alone(self.folder / f".{target.name}.converting.lock", refusal=busy):
            if to == "store":
                unreadable = self.store(split, source, target).unreadable
                made = open_store(target)
            else:
                unreadable = self.beton(split, source, target)
                made = open_beton(target)
        return Conversion(
            path=target,
            split=split,
            shape=tuple(made.images.shape),
            classes=made.num_classes,
            digest=made.digest,
            unreadable=unreadable,
            seconds=time.perf_counter() - began,
        )

    def store(self, split: str, source: ClassFolder | Callable[[], Dataset], target: Path) -> StoreNote:
        if not isinstance(source, ClassFolder):
            return self.copy(source(), split, target)
        return self.of_folder(source, split, target).run()

    def of_folder(self, source: ClassFolder, split: str, target: Path) -> FolderConversion:
        return FolderConversion(
            folder=source,
            target=target,
            name=self.name,
            split=split,
            resolution=self.resolution,
            workers=self.workers,
            allow_unreadable=self.allow_unreadable,
            real_labels=self.real_labels if split == "test" else None,
            progress=self.progress,
        )

    def beton(self, split: str, source: ClassFolder | Callable[[], Dataset], target: Path) -> tuple[str, ...]:
        """Let the images pass through a store, which can be resumed; return which files were left out."""
        between = self.folder / f".{target.name}.store"
        if not target.exists():
            note = self.store(split, source, between)
            write_beton(target, open_store(between), source=note.source)
        else:
            self.require_beton(split, source, target, between)
        if between.exists():
            shutil.rmtree(between)
        names = unreadable_names(target, split)
        return (
            tuple(names.read_bytes().decode().split("\n")[:-1])
            if isinstance(source, ClassFolder) and names.exists()
            else ()
        )

    def require_beton(
        self, split: str, source: ClassFolder | Callable[[], Dataset], target: Path, between: Path
    ) -> None:
        """Raise unless a file was made of what it would be made of now."""
        there = InputError(f"out = {str(target)!r}: is there already: give another folder, or remove it")
        try:
            note = read_note_beside(read_layout(target))
        except DamagedFileError as error:
            raise there from error
        if note is None:
            raise there
        if isinstance(source, ClassFolder):
            require_source(target, note, self.of_folder(source, split, between).source())
        else:
            require_source(target, note, self.source(source()))

    def source(self, dataset: Dataset) -> dict[str, object]:
        """Return what of a dataset decides what is made of it."""
        return {"kind": "dataset", "digest": dataset.digest, "resolution": self.resolution}

    def copy(self, dataset: Dataset, split: str, target: Path) -> StoreNote:
        """Store images that are decoded already."""
        channels, height, width = dataset.image_shape
        side = self.resolution
        resized = side is not None and (height, width) != (side, side)
        if resized and channels not in (1, 3):
            raise invalid(
                "resolution", side, f"None for images of {channels} channels, which have no resizing of bytes"
            )
        source = self.source(dataset)
        if not target.exists():
            require_room(target.parent, len(dataset) * channels * (side**2 if resized else height * width))
            starts = range(0, len(dataset), _AT_ONCE)
            bar = tqdm(starts, desc=f"storing {split}", unit="part", disable=not self.progress, delay=0.5, leave=False)
            with StoreWriter(
                target, classes=dataset.classes, name=self.name, split=split, source=canonical_json(source)
            ) as writer:
                for start in bar:
                    images = dataset.images[start : start + _AT_ONCE]
                    writer.append(
                        _resized(images, side) if resized else images, dataset.labels[start : start + _AT_ONCE]
                    )
                writer.finish(label_sets=dataset.label_sets)
        note = read_note(target)
        require_source(target, note, source)
        return note


def _resized(images: torch.Tensor, side: int) -> np.ndarray:
    return np.stack([resize_pixels(image, side) for image in images.numpy()])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _find(source: str, data_root: str | os.PathLike[str] | None, resolution: int | None) -> tuple[str, Splits]:
    """Return the name of a source, and its splits."""
    kind, colon, place = source.partition(":")
    if source in IMAGE_FOLDERS:
        return source, dict(find_splits(find_image_folder(source, data_root)))
    if colon and kind in files:
        return Path(place).name, _stored(kind, place, data_root)
    if source in datasets:
        return source, {split: functools.partial(load, source, split, data_root) for split in SPLITS}
    path = Path(source).absolute()
    if not path.exists():
        raise unknown_name("source", source, [*datasets, "a folder of images", "a .store", "a .beton"])
    if path.suffix.lstrip(".") in FORMATS:
        split = path.stem if path.stem in SPLITS else "train"
        return path.parent.name, {split: functools.partial(_open, path, resolution)}
    if path.is_dir() and not any((path / train).is_dir() for train in TRAIN_FOLDERS):
        for each in FORMATS:
            if any((path / f"{split}.{each}").exists() for split in SPLITS):
                return path.name, _stored(each, str(path), data_root)
    return path.resolve().name, dict(find_splits(path))


def _stored(kind: str, place: str, data_root: str | os.PathLike[str] | None) -> Splits:
    """Return the splits that are there of two."""
    found: Splits = {}
    missing: list[MissingDataError] = []
    for split in SPLITS:
        try:
            found[split] = functools.partial(lambda dataset: dataset, load(f"{kind}:{place}", split, data_root))
        except MissingDataError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _open(path: Path, resolution: int | None) -> Dataset:
    """Open one file; only images of several sizes are brought to the resolution by FFCV, as they have no tensor."""
    if path.suffix == ".store":
        return open_store(path)
    return open_beton(path, resolution=None if is_of_one_size(read_layout(path)) else resolution)


def usage(conversions: tuple[Conversion, ...], data_root: str | os.PathLike[str] | None = None) -> str:
    """Return the name by which `load` and recipes know what was made.

    Examples
    --------
    >>> made = Conversion(path=Path("/data/mine/train.store"), split="train", shape=(1, 3, 8, 8), classes=1,
    ...                   digest="", unreadable=(), seconds=0.0)
    >>> usage((made,), "/data")
    'store:mine'
    """
    path = conversions[0].path
    folder, kind = path.parent.absolute(), path.suffix.lstrip(".")
    if all(place.absolute() != folder.parent for _, place in data_roots(data_root)):
        return f"{kind}:{folder}"
    return folder.name if folder.name in IMAGE_FOLDERS else f"{kind}:{folder.name}"
