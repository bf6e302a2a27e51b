"""Tiny ImageNet (Stanford CS231n) from its folder of JPEG files, decoded once and kept beside them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mlptheory.base import DamagedFileError
from mlptheory.base.files import canonical_json, sha256, write_atomically
from mlptheory.data.catalog import find_folder
from mlptheory.data.dataset import Dataset

_SOURCE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_FOLDER = "tiny-imagenet-200"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How much of what there must be.

    Attributes
    ----------
    classes : int
    per_class : dict
        Examples of each class, by split.
    side : int
        Height and width of an image.
    """

    classes: int
    per_class: dict[str, int]
    side: int


TINY_IMAGENET = Layout(classes=200, per_class={"train": 500, "test": 50}, side=64)


def load_tinyimagenet(split: str, root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Tiny ImageNet from ``tiny-imagenet-200``; see `mlptheory.data.load`.

    100,000 images to train, 64x64, 200 classes. "test" is the labeled validation set of 10,000 images, as the
    labels of the official test set were never published. Gray images become three equal channels. Classes are in the
    order of wnids.txt, training images class by class and by number, those of the validation set as its list has them.
    The first call decodes the files, in a minute or so, and keeps the pixels beside them if it may write there.
    """
    folder = find_folder("tinyimagenet", (_FOLDER,), root, _SOURCE)
    images, labels, classes = read_split(folder, split, TINY_IMAGENET)
    return Dataset(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        classes=classes,
        name="tinyimagenet",
        split=split,
    )


def read_split(folder: Path, split: str, layout: Layout) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one split and the names of the classes.

    Parameters
    ----------
    folder : Path
        With train, val, wnids.txt and words.txt.
    split : {"train", "test"}
    layout : Layout

    Returns
    -------
    images : ndarray of uint8, shape (N, 3, side, side)
    labels : ndarray of int64, shape (N,)
    classes : tuple of str

    Raises
    ------
    DamagedFileError
        If a file is missing or is no such image, or there are more or fewer of a class than there must be.
    """
    wnids = [line.strip() for line in _lines(folder / "wnids.txt") if line.strip()]
    if len(set(wnids)) != layout.classes or len(wnids) != layout.classes:
        raise DamagedFileError(f"{folder / 'wnids.txt'}: expected {layout.classes} classes, found {len(set(wnids))}")
    examples = _train_files(folder, wnids) if split == "train" else _validation_files(folder, wnids)
    expected = layout.per_class[split]
    labels = np.array([label for _, label in examples], dtype=np.int64)
    counts = np.bincount(labels, minlength=layout.classes)
    if (counts != expected).any():
        wrong = int(np.argmax(counts != expected))
        raise DamagedFileError(
            f"{folder}: expected {expected} images of {wnids[wrong]} in {split!r}, found {counts[wrong]}"
        )
    return _pixels(folder, split, [path for path, _ in examples], layout.side), labels, _names(folder, wnids)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DamagedFileError(f"{path}: missing, while its folder is there: unpack tinyimagenet again")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: expected text, found {error.object[error.start : error.end]!r}") from error


def _train_files(folder: Path, wnids: list[str]) -> list[tuple[Path, int]]:
    """Return the training images and their labels, class by class, each by the number in its name."""
    examples = []
    for label, wnid in enumerate(wnids):
        name = re.compile(re.escape(wnid) + r"_(\d+)\.JPEG")
        numbered = [
            (int(match[1]), path)
            for path in (folder / "train" / wnid / "images").glob("*")
            if (match := name.fullmatch(path.name))
        ]
        examples += [(path, label) for _, path in sorted(numbered)]
    return examples


def _validation_files(folder: Path, wnids: list[str]) -> list[tuple[Path, int]]:
    annotations = folder / "val" / "val_annotations.txt"
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    examples = []
    for line in _lines(annotations):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in label_of or not re.fullmatch(r"val_\d+\.JPEG", name):
            raise DamagedFileError(f"{annotations}: expected an image and its class in each line, found {line!r}")
        examples.append((folder / "val" / "images" / name, label_of[wnid]))
    if len({path for path, _ in examples}) != len(examples):
        raise DamagedFileError(f"{annotations}: an image is listed twice")
    return examples


def _names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    return tuple(words.get(wnid, wnid).strip() for wnid in wnids)


def _pixels(folder: Path, split: str, files: list[Path], side: int) -> np.ndarray:
    """Return the decoded images, from what an earlier call kept if the files are still those and its bytes whole."""
    kept, note = folder / f".decoded-{split}.bin", folder / f".decoded-{split}.json"
    shape = (len(files), 3, side, side)
    key = _key(folder, files, shape)
    try:
        known = json.loads(note.read_text())
        pixels = np.fromfile(kept, dtype=np.uint8) if known["files"] == key else None
        if pixels is not None and _digest(pixels) == known["pixels"]:
            return pixels.reshape(shape)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    pixels = _decode(files, shape)
    try:
        write_atomically(kept, memoryview(pixels).cast("B"))
        write_atomically(note, canonical_json({"files": key, "pixels": _digest(pixels)}))
    except OSError:
        # A folder that may not be written, or a full disk, costs time at the next call and nothing else.
        pass
    return pixels


def _key(folder: Path, files: list[Path], shape: tuple[int, ...]) -> str:
    """Return a digest of what the pixels depend on: names, sizes and times of the files, and the decoder."""
    from PIL import Image, features

    try:
        stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    except FileNotFoundError as error:
        raise DamagedFileError(f"{error.filename}: missing, while it is listed: unpack tinyimagenet again") from error
    decoder = [Image.__version__, features.version("libjpeg_turbo") or features.version("jpg")]
    return sha256(canonical_json([shape, decoder, [[name, found.st_size, found.st_mtime_ns] for name, found in stats]]))


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.data).hexdigest()


def _decode(files: list[Path], shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    pixels = np.empty(shape, dtype=np.uint8)
    size = (shape[3], shape[2])
    for index, path in enumerate(tqdm(files, desc="decoding", unit="image", delay=1.0)):
        try:
            with Image.open(path, formats=("JPEG",)) as image:
                if image.size != size:
                    raise DamagedFileError(f"{path}: expected {size[0]}x{size[1]} pixels, found {image.size}")
                pixels[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise DamagedFileError(f"{path}: expected a JPEG image ({' '.join(str(error).split())})") from error
    return pixels
