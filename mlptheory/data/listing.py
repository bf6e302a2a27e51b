"""What is to be decoded: the files of a split in order, cut into chunks that are finished one by one."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json
from mlptheory.data.class_folder import ClassFolder
from mlptheory.data.decoding import ENDINGS


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a split, chunk by chunk; their paths are in a file, as millions of them would fill the memory.

    Attributes
    ----------
    path : Path
        Paths below the split's folder, each ended by a zero byte.
    chunk : int
        Files in a chunk; the last one may have fewer.
    per_class : tuple of int
        Files of each class.
    digest : str
        SHA-256 of the classes and of all paths: those of the images and of where each is to be.
    offsets : tuple of int
        Where each chunk begins in `path`, and where the last one ends.
    keys : tuple of str
        A digest for each chunk of its files' names, sizes and times.
    """

    path: Path
    chunk: int
    per_class: tuple[int, ...]
    digest: str
    offsets: tuple[int, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return sum(self.per_class)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Return the first file of a chunk, and the one behind its last."""
        return chunk * self.chunk, min((chunk + 1) * self.chunk, len(self))

    def files(self, chunk: int) -> list[str]:
        """Return the paths of a chunk."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[chunk])
            content = file.read(self.offsets[chunk + 1] - self.offsets[chunk])
        return [os.fsdecode(path) for path in content.split(b"\0")[:-1]]

    def labels(self) -> np.ndarray:
        """Return the label of each file, int64 of shape (N,)."""
        return np.repeat(np.arange(len(self.per_class), dtype=np.int64), self.per_class)


def list_files(folder: ClassFolder, path: Path, *, chunk: int, every_class: bool, progress: bool = True) -> Listing:
    """Write the paths of a split's images to a file.

    Parameters
    ----------
    folder : ClassFolder
    path : Path
        Written anew.
    chunk : int
        Files in a chunk.
    every_class : bool
        Whether each class must have an image.
    progress : bool
        Show a bar.

    Raises
    ------
    InputError
        If there is no image, or none of a class that must have one.
    """
    per_class = [0] * len(folder.classes)
    names = hashlib.sha256(canonical_json(list(folder.classes)).encode())
    offsets, keys = [0], []
    bar = tqdm(desc="listing", unit="file", disable=not progress, delay=1.0, leave=False)
    with path.open("wb") as out, bar:
        files = folder.files()
        while part := list(itertools.islice(files, chunk)):
            paths = [os.fsencode(file.path) + b"\0" for file in part]
            written = b"".join(paths)
            out.write(written)
            names.update(written)
            state = b"".join(each + b"%d %d\0" % (file.size, file.time) for each, file in zip(paths, part, strict=True))
            offsets.append(offsets[-1] + len(written))
            keys.append(hashlib.sha256(state).hexdigest()[:16])
            for file in part:
                per_class[file.label] += 1
            bar.update(len(part))
    _require_images(folder, per_class, every_class)
    return Listing(
        path=path,
        chunk=chunk,
        per_class=tuple(per_class),
        digest=names.hexdigest(),
        offsets=tuple(offsets),
        keys=tuple(keys),
    )


def _require_images(folder: ClassFolder, per_class: list[int], every_class: bool) -> None:
    empty = [name for name, count in zip(folder.classes, per_class, strict=True) if not count]
    if len(empty) == len(per_class):
        raise InputError(
            f"source = {str(folder.path)!r}: expected images ({', '.join(ENDINGS)}) in its classes' folders"
        )
    if empty and every_class:
        raise InputError(
            f"source = {str(folder.path)!r}: expected an image of every class; {len(empty)} of {len(per_class)} "
            f"folders have none, {empty[0]!r} the first: remove what is no class"
        )
