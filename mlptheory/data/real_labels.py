"""Reassessed labels of ImageNet's validation images: all that a person would call right, or none."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlptheory.base import DamagedFileError, InputError
from mlptheory.base.files import canonical_json, sha256


def read_real_labels(path: str | os.PathLike[str]) -> tuple[frozenset[int], ...]:
    """Read the sets of labels of Beyer et al. (2020), "Are we done with ImageNet?", from their file real.json.

    The file is a JSON list of 50,000 lists of classes, one for each validation image of ILSVRC 2012 in the order of
    the file names, from ``ILSVRC2012_val_00000001.JPEG`` on: a data set in another order, by class for example, needs
    the sets in that order. Classes are counted from 0, by their WordNet identifiers in alphabetical order. A list is
    empty where no label fitted; ReaL accuracy leaves these images out.

    Parameters
    ----------
    path : path-like
        The file, or another of the same form, of any length.

    Returns
    -------
    tuple of frozenset of int
        One for each image.

    Raises
    ------
    InputError
        If there is no such file.
    DamagedFileError
        If it is not a JSON list of lists of integers of at least 0; the entry is named.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "real.json")
    ...     _ = path.write_text("[[65], [], [970, 795]]")
    ...     [sorted(labels) for labels in read_real_labels(path)]
    [[65], [], [795, 970]]
    """
    entries = _read_json(Path(path))
    if not isinstance(entries, list) or not entries:
        raise DamagedFileError(f"{path}: expected a JSON list of lists of labels, found {reprlib.repr(entries)}")
    for index, labels in enumerate(entries):
        # JSON's true is an int to Python.
        if not isinstance(labels, list) or not all(type(label) is int and label >= 0 for label in labels):
            raise DamagedFileError(
                f"{path}: entry {index} = {reprlib.repr(labels)}: expected a list of integers of at least 0"
            )
    return tuple(frozenset(labels) for labels in entries)


def join_real_labels(
    real_labels: Sequence[frozenset[int]], paths: Sequence[str], labels: np.ndarray, classes: int
) -> tuple[frozenset[int], ...]:
    """Bring sets of labels from the order of the images' file names to that of the images.

    Parameters
    ----------
    real_labels : sequence of frozenset of int
        As `read_real_labels` returns them: one for each image, in the order of the files' names.
    paths : sequence of str
        Of the images, in folders as may be; their names decide.
    labels : ndarray of int, shape (N,)
        The labels that the images have: most of them are in their set, or the sets are of other images.
    classes : int
        How many there are.

    Returns
    -------
    tuple of frozenset of int
        One for each path.

    Raises
    ------
    InputError
        If there are more or fewer sets than images, two images have one name, a set has a class that is not there, or
        fewer than half of the images with a set have their label in it.

    Examples
    --------
    >>> sets = [frozenset({1}), frozenset({0, 2}), frozenset()]
    >>> [sorted(each) for each in join_real_labels(sets, ["a/2.JPEG", "a/3.JPEG", "b/1.JPEG"], np.array([0, 0, 1]), 3)]
    [[0, 2], [], [1]]
    """
    if len(real_labels) != len(paths):
        raise InputError(f"real = {len(real_labels)} sets of labels: expected {len(paths)}, one for each image")
    largest = max((label for each in real_labels for label in each), default=0)
    if largest >= classes:
        raise InputError(f"real: a set has label {largest}: expected labels up to {classes - 1}, of {classes} classes")
    names = [path.rpartition("/")[2] for path in paths]
    if len(set(names)) < len(names):
        raise InputError("real: two images have one file name: expected names that say which set is whose")
    joined = [frozenset()] * len(paths)
    for labeled, index in zip(real_labels, sorted(range(len(paths)), key=names.__getitem__), strict=True):
        joined[index] = labeled
    hits = [label in each for label, each in zip(labels.tolist(), joined, strict=True) if each]
    if 2 * sum(hits) < len(hits):
        raise InputError(
            f"real: {sum(hits)} of {len(hits)} images have their own label in their set: expected most of them; the "
            "sets are of other images, or classes are counted in another order"
        )
    return tuple(joined)


def label_sets_digest(label_sets: Sequence[frozenset[int]]) -> str:
    """Return the SHA-256 of sets of labels.

    Examples
    --------
    >>> label_sets_digest([frozenset({2, 1})])[:8]
    '12849a36'
    """
    return sha256(canonical_json([sorted(labels) for labels in label_sets]))


def _read_json(path: Path) -> object:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"path = {str(path)!r}: expected the file real.json ({reason})") from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        start = content[:60].decode("utf-8", errors="replace")
        raise DamagedFileError(
            f"{path}: expected JSON, a list of lists of labels, found {start!r} ({error})"
        ) from error
