"""Write images to a .beton file, through FFCV's own writer."""

from __future__ import annotations

import dataclasses
import math
import os
from array import array
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch

from mlptheory.base import DamagedFileError, invalid, unknown_name
from mlptheory.base.configuration import require_integer
from mlptheory.base.files import sync_folder, write_atomically
from mlptheory.data.beton import BetonImages
from mlptheory.data.beton_layout import FIRST_ARGUMENTS, read_layout
from mlptheory.data.beton_note import BetonNote, note_path
from mlptheory.data.dataset import Dataset
from mlptheory.data.ffcv_library import require_ffcv
from mlptheory.data.image_source import Images, ImageSource, chunks
from mlptheory.data.locks import alone
from mlptheory.data.normalization import channel_sums

SUFFIX = ".beton"
MODES = ("raw", "jpg", "smart")
_PAGE_BYTES = 2**23


def write_beton(
    path: str | os.PathLike[str],
    dataset: Dataset,
    *,
    mode: Literal["raw", "jpg", "smart"] = "raw",
    quality: int = 90,
    smart_threshold: int | None = None,
    source: str | None = None,
) -> Path:
    """Write a dataset to a .beton file that FFCV reads as any other, and what it has no place for beside it.

    FFCV knows images of three channels only: gray ones are written as three equal channels. Where the dataset has
    `label_sets` (ReaL), these are written as the labels, in rows of one length that -1 fills up, as the authors' code
    reads them; one label for each image is kept beside. Images are written in order by one process, read back, and
    compared with what was to be written where they are stored raw. The file has its name when all of it is there;
    killed or out of disk, there is none.

    Parameters
    ----------
    path : path-like
        A name that ends in ".beton"; nothing may be there, and its folder must.
    dataset : Dataset
        In memory or not; read once, part by part.
    mode : {"raw", "jpg", "smart"}
        FFCV's: pixels as they are; JPEG, which changes them; or JPEG where the pixels take more bytes than
        `smart_threshold`.
    quality : int
        Of JPEG, from 1 to 100.
    smart_threshold : int, optional
        In bytes; without it "smart" keeps all pixels as they are, as FFCV does.
    source : str, optional
        Where the images come from, for the note.

    Returns
    -------
    Path
        The file. ``PATH.json`` beside it has the names of the classes, the digest and the sums over the pixels.

    Raises
    ------
    InputError
        If an argument is not as described, or the package ffcv is not installed.
    OSError
        If the disk is full.
    DamagedFileError
        If what is read back is not what was written.

    Examples
    --------
    >>> from mlptheory.data import load
    >>> write_beton("digits.ffcv", load("digits", "test"))
    Traceback (most recent call last):
    mlptheory.base.errors.InputError: path = 'digits.ffcv': expected a name that ends in .beton
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise invalid("path", str(path), f"a name that ends in {SUFFIX}")
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    require_integer("quality", quality, 1)
    if quality > 100:
        raise invalid("quality", quality, "an integer from 1 to 100")
    if smart_threshold is not None:
        require_integer("smart_threshold", smart_threshold, 0)
    if dataset.image_shape[0] not in (1, 3):
        raise invalid("dataset", repr(dataset), "images of one or three channels")
    labels = _labels(dataset)
    dataset = dataclasses.replace(dataset, images=_Colored(dataset.images)) if dataset.image_shape[0] == 1 else dataset
    require_ffcv(f"path = {str(path)!r}")
    from ffcv.fields import RGBImageField

    image = RGBImageField(write_mode=mode, jpeg_quality=quality, smart_threshold=smart_threshold)
    beside = target.with_name(f".{target.name}.part")
    with ExitStack() as held:
        held.enter_context(alone(target.with_name(f".{target.name}.lock")))
        if target.exists():
            raise invalid("path", str(path), "a place where nothing is")
        held.callback(beside.unlink, missing_ok=True)
        length = _write(beside, dataset, image, labels)
        # A page that the disk has no room for may be cut without a word.
        if beside.stat().st_size != length:
            raise OSError(f"{target}: {beside.stat().st_size} of {length} bytes could be written")
        note = _note(beside, dataset, labels, source, is_exact=mode == "raw")
        with beside.open("r+b") as file:
            file.seek(FIRST_ARGUMENTS)
            file.write(bytes.fromhex(note.digest))
            file.flush()
            os.fsync(file.fileno())
        write_atomically(note_path(target), note.to_json())
        beside.rename(target)
        sync_folder(target.parent)
    return target


def _labels(dataset: Dataset) -> np.ndarray:
    """Return the labels, of shape (N,), or rows of all that are right, of shape (N, k)."""
    sets = dataset.label_sets
    if sets is None:
        return dataset.labels.cpu().numpy()
    # Of two at least: a row of one number is a label.
    rows = np.full((len(dataset), max(2, *map(len, sets))), -1, np.int64)
    for row, labels in zip(rows, sets, strict=True):
        row[: len(labels)] = sorted(labels)
    return rows


def _write(path: Path, dataset: Dataset, image: Any, labels: np.ndarray) -> int:
    """Write all images in this process, with the parts of FFCV's writer; return how long the file should be.

    The writer's own processes would be waited for for ever when one of them fails.
    """
    from ffcv.fields import IntField, NDArrayField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    label = IntField() if labels.ndim == 1 else NDArrayField(labels.dtype, labels.shape[1:])
    page = max(_PAGE_BYTES, 2 ** math.ceil(math.log2(3 * math.prod(dataset.image_shape[1:]) + 8 * labels[0].size)))
    writer = DatasetWriter(str(path), {"image": image, "label": label}, page_size=page, num_workers=1)
    writer.num_samples = len(dataset)
    writer.prepare()
    # Shared with other processes, which there are none of, and not to be closed while a traceback looks at it.
    writer.metadata_sm.close()
    writer.metadata_sm.unlink()
    writer.metadata_sm = SimpleNamespace(buf=bytearray(len(dataset) * writer.metadata_type.itemsize))
    metadata = np.frombuffer(writer.metadata_sm.buf, writer.metadata_type)
    allocator = MemoryAllocator(str(path), writer.data_region_start, page)
    allocator.allocations = _Pieces()
    example = 0
    with allocator:
        for part in chunks(dataset.images, f"writing {path.name}"):
            for pixels in part.permute(0, 2, 3, 1).contiguous().cpu().numpy():
                sample = (pixels, labels[example])
                handle_sample(sample, example, metadata.dtype.names, metadata, allocator, writer.fields)
                example += 1
    pieces = allocator.allocations.table()
    writer.finalize([pieces])
    return allocator.offset + allocator.next_page_written.value * page + pieces.nbytes


class _Pieces:
    """FFCV's list of (example, pointer, size), in 24 bytes each."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def __getitem__(self, index: int) -> tuple[int, ...]:
        start = 3 * (index % len(self))
        return tuple(self._numbers[start : start + 3])

    def append(self, piece: tuple[int, int, int]) -> None:
        self._numbers.extend(map(int, piece))

    def pop(self) -> None:
        del self._numbers[-3:]

    def table(self) -> np.ndarray:
        from ffcv.types import ALLOC_TABLE_TYPE

        return np.frombuffer(self._numbers, ALLOC_TABLE_TYPE)


class _Colored(ImageSource):
    """Gray images as three equal channels."""

    def __init__(self, images: Images) -> None:
        self._images, self.shape = images, (len(images), 3, *images.shape[2:])

    def __getitem__(self, examples: slice | torch.Tensor) -> torch.Tensor:
        return self._images[examples].expand(-1, 3, -1, -1)


def _note(path: Path, dataset: Dataset, labels: np.ndarray, source: str | None, is_exact: bool) -> BetonNote:
    """Read a file back."""
    images = BetonImages(read_layout(path))
    read = dataclasses.replace(dataset, images=images)
    if is_exact and read.digest != dataset.digest:
        raise DamagedFileError(f"{path}: its images are not those that were to be written")
    return BetonNote(
        classes=dataset.classes,
        name=dataset.name,
        split=dataset.split,
        digest=read.digest,
        sums=channel_sums(images),
        labels=None if labels.ndim == 1 else tuple(dataset.labels.tolist()),
        source=source,
    )
