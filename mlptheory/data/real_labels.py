"""Reassessed labels of ImageNet's validation images: all that a person would call right, or none."""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path

from mlptheory.base import DamagedFileError, InputError


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
