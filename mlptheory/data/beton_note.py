"""What a .beton file has no place for, beside it: names of classes, digest, sums over the pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlptheory.base import DamagedFileError
from mlptheory.base.files import canonical_json, sha256
from mlptheory.data.beton_layout import BetonLayout
from mlptheory.data.image_source import ChannelSums
from mlptheory.data.store_note import is_signed

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class BetonNote:
    """What is known of a .beton file's images without reading them.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes.
    name, split : str
        As of a `Dataset`.
    digest : str
        As of a `Dataset`, of what the file decodes to.
    sums : tuple of two tuples of int
        Sums of the pixels and of their squares, one of each for every channel.
    labels : tuple of int, or None
        One for each image, where the file has lists of them.
    source : str or None
        Where the images came from.
    """

    classes: tuple[str, ...]
    name: str
    split: str
    digest: str
    sums: ChannelSums
    labels: tuple[int, ...] | None
    source: str | None

    def to_json(self) -> str:
        """Return the text of the file, with a digest of itself."""
        content = {
            "format": FORMAT,
            "classes": self.classes,
            "name": self.name,
            "split": self.split,
            "digest": self.digest,
            "sums": self.sums[0],
            "squares": self.sums[1],
            "labels": self.labels,
            "source": self.source,
        }
        return canonical_json(content | {"note_digest": sha256(canonical_json(content))})


def note_path(path: Path) -> Path:
    """Return where the note of a .beton file lies."""
    return path.with_name(path.name + ".json")


def read_note_beside(layout: BetonLayout) -> BetonNote | None:
    """Read what was written beside a .beton file; None if there is nothing.

    Raises
    ------
    DamagedFileError
        If it is not as it was written, or belongs to another file: `write_beton` leaves the digest in both.
    """
    path = note_path(layout.path)
    try:
        content = json.loads(path.read_bytes())
        digest = content.pop("note_digest")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{path}: expected what write_beton wrote ({error}); without it the images open"
        ) from error
    if content.get("format") != FORMAT or not is_signed(content, digest):
        raise DamagedFileError(f"{path}: not as it was written, or of a later format; without it the images open")
    if not layout.image_arguments.startswith(bytes.fromhex(content["digest"])):
        raise DamagedFileError(f"{path}: belongs to another {layout.path.name}; without it the images open")
    return BetonNote(
        classes=tuple(content["classes"]),
        name=content["name"],
        split=content["split"],
        digest=content["digest"],
        sums=(tuple(content["sums"]), tuple(content["squares"])),
        labels=None if content["labels"] is None else tuple(content["labels"]),
        source=content["source"],
    )
