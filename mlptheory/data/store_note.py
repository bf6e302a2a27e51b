"""What is known of stored images without reading them: the file store.json."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlptheory.base import DamagedFileError, InputError, MissingDataError
from mlptheory.base.files import canonical_json, sha256
from mlptheory.data.mapped_images import ChannelSums

FORMAT = 1
NOTE = "store.json"


@dataclass(frozen=True, kw_only=True)
class StoreNote:
    """What is known of stored images without reading them.

    Attributes
    ----------
    shape : tuple of int
        (N, C, H, W).
    classes : tuple of str
        Names of the classes.
    name, split : str
        As of a `Dataset`.
    digest : str
        As of a `Dataset`.
    sums : tuple of two tuples of int
        Sums of the pixels and of their squares over all images, one of each for every channel.
    labels_digest : str
        SHA-256 of the file of labels.
    label_sets : tuple of frozenset of int, or None
        For each image all classes that are right (ReaL), where they are known.
    source : str or None
        Where the images came from.
    unreadable : tuple of str
        Files of the source that were left out.
    """

    shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    name: str
    split: str
    digest: str
    sums: ChannelSums
    labels_digest: str
    label_sets: tuple[frozenset[int], ...] | None
    source: str | None
    unreadable: tuple[str, ...]

    def to_json(self) -> str:
        """Return the text of store.json, with a digest of itself."""
        content = {
            "format": FORMAT,
            "shape": self.shape,
            "classes": self.classes,
            "name": self.name,
            "split": self.split,
            "digest": self.digest,
            "sums": self.sums[0],
            "squares": self.sums[1],
            "labels_digest": self.labels_digest,
            "label_sets": None if self.label_sets is None else [sorted(labels) for labels in self.label_sets],
            "source": self.source,
            "unreadable": self.unreadable,
        }
        return canonical_json(content | {"note_digest": sha256(canonical_json(content))})


def read_note(folder: str | os.PathLike[str]) -> StoreNote:
    """Read what is known of stored images.

    Raises
    ------
    MissingDataError
        If there is no such folder.
    DamagedFileError
        If its store.json is missing, of another format, or not as it was written.
    """
    path = Path(folder) / NOTE
    if not path.parent.is_dir():
        raise MissingDataError(f"path = {str(path.parent)!r}: expected a folder of stored images, found none")
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: expected JSON ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise DamagedFileError(f"{path}: expected a JSON object with a format")
    if content["format"] != FORMAT:
        raise DamagedFileError(
            f"{path}: format {content['format']}: expected {FORMAT}, the one that this version of mlptheory reads"
        )
    digest = content.pop("note_digest", None)
    if not is_signed(content, digest):
        raise DamagedFileError(f"{path}: its content is not what was written")
    try:
        return _note(content)
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{path}: expected what a store knows of its images ({error!r})") from error


def is_signed(content: dict[str, Any], digest: object) -> bool:
    """Return whether a digest is that of what JSON was read to, which may be more than is ever written."""
    try:
        return sha256(canonical_json(content)) == digest
    except ValueError:  # no number, or half a character
        return False


def _note(content: dict[str, Any]) -> StoreNote:
    sets = content["label_sets"]
    return StoreNote(
        shape=tuple(content["shape"]),
        classes=tuple(content["classes"]),
        name=content["name"],
        split=content["split"],
        digest=content["digest"],
        sums=(tuple(content["sums"]), tuple(content["squares"])),
        labels_digest=content["labels_digest"],
        label_sets=None if sets is None else tuple(frozenset(labels) for labels in sets),
        source=content["source"],
        unreadable=tuple(content["unreadable"]),
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error for a file of a store that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return DamagedFileError(f"{path}: missing, while its folder is there")
    return InputError(f"path = {str(path)!r}: expected a file that can be read ({error.strerror or error})")
