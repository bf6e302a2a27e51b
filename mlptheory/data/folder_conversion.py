"""One split of a class folder made a store: decoded by several processes, resumed where it was killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json, sha256, sync_folder, write_atomically
from mlptheory.data.beton_note import BetonNote
from mlptheory.data.class_folder import ClassFolder
from mlptheory.data.decoded_chunks import Journal
from mlptheory.data.decoding import decoder
from mlptheory.data.decoding_workers import DecodedChunk, Decoding, decode_chunks, wait_for_workers
from mlptheory.data.listing import Listing, list_files
from mlptheory.data.normalization import channel_sums
from mlptheory.data.real_labels import join_real_labels, label_sets_digest
from mlptheory.data.settling import Settling, moving_file
from mlptheory.data.store import IMAGES, LABELS, add_sums
from mlptheory.data.store_note import NOTE, StoreNote, read_note

CHUNK = 128
"""Images that are decoded, written and noted at a time; a kill costs each process two such chunks at most."""

_FILES, _PLAN, _JOURNAL = "files.bin", "plan.json", "journal.jsonl"
_SPARE_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class FolderConversion:
    """What is to be made of one split.

    Attributes
    ----------
    folder : ClassFolder
    target : Path
        The store to be.
    name, split : str
        As of a `Dataset`.
    resolution : int
        Side of the images.
    workers : int
        Processes; they change no bit.
    allow_unreadable : float
        Largest share of files that may be left out.
    real_labels : tuple of frozenset of int, or None
        ReaL sets in the order of the files' names.
    progress : bool
    chunk : int
    """

    folder: ClassFolder
    target: Path
    name: str
    split: str
    resolution: int
    workers: int
    allow_unreadable: float
    real_labels: tuple[frozenset[int], ...] | None = None
    progress: bool = True
    chunk: int = CHUNK

    @property
    def part(self) -> Path:
        """The folder in which the store is made, beside where it is to be."""
        return self.target.with_name(f".{self.target.name}.converting")

    def run(self) -> StoreNote:
        """Make the store, or go on where an earlier call was killed; one that is there and the same is left alone.

        Nobody else may be at it.

        Raises
        ------
        InputError
            If another store is there or was begun, the folder holds no images, there is no room, or more files than
            allowed are unreadable.
        ChildProcessError, OSError
            As `decode_chunks` does.
        """
        # A killed call may have come to the end of all but giving it its name.
        if not self.target.exists() and (self.part / NOTE).exists():
            self._publish()
        self.part.mkdir(exist_ok=True)
        wait_for_workers(self.part)
        listing = self._list(self.part / _FILES)
        if self.target.exists():
            shutil.rmtree(self.part)
        else:
            self._begin(listing)
            self._make(listing)
            self._publish()
        note = read_note(self.target)
        require_source(self.target, note, self._source(listing))
        return note

    def _list(self, path: Path) -> Listing:
        return list_files(
            self.folder, path, chunk=self.chunk, every_class=self.split == "train", progress=self.progress
        )

    def _begin(self, listing: Listing) -> None:
        """Write down what is being made, or compare it with what was begun."""
        path = self.part / _PLAN
        plan = {"chunk": self.chunk, **self._source(listing), "decoder": decoder()}
        del plan["real"]  # joined at the end, whatever was decoded before
        try:
            begun = json.loads(path.read_bytes())
        except FileNotFoundError:
            require_room(self.part, len(listing) * self._image_bytes)
            write_atomically(path, canonical_json(plan))
            return
        for name, value in plan.items():
            if begun.get(name) != value:
                raise InputError(
                    f"out = {str(self.target)!r}: was begun with {name} {begun.get(name)!r}, not {value!r}: go on as "
                    f"it was begun, or remove the folder {self.part.name} to begin anew"
                )

    def source(self) -> dict[str, object]:
        """Return what of the folder decides what is made of it."""
        with tempfile.TemporaryDirectory() as folder:
            return self._source(self._list(Path(folder, _FILES)))

    def _source(self, listing: Listing) -> dict[str, object]:
        return {
            "kind": "class folder",
            "files": len(listing),
            "names": listing.digest,
            "resolution": self.resolution,
            "real": None if self.real_labels is None else label_sets_digest(self.real_labels),
        }

    @property
    def _image_bytes(self) -> int:
        return 3 * self.resolution**2

    def _make(self, listing: Listing) -> None:
        images, sets = self.part / IMAGES, self._label_sets(listing)
        moved = moving_file(self.part).exists()
        if not moved:
            with images.open("ab") as file:
                file.truncate(len(listing) * self._image_bytes)
        # Once images were moved, a file that was changed since is too late.
        with Journal(self.part / _JOURNAL, listing.keys, frozen=moved) as journal:
            if not moved:
                self._decode(listing, journal, images)
            unreadable = self._require_readable(listing, journal.finished)
            self._settle(listing, journal.finished, sets, unreadable)

    def _decode(self, listing: Listing, journal: Journal, images: Path) -> None:
        """Decode the chunks that are not finished."""
        todo = [chunk for chunk in range(len(listing.keys)) if chunk not in journal.finished]
        done = len(listing) - sum(stop - start for start, stop in map(listing.bounds, todo))
        decoding = Decoding(folder=self.folder.path, listing=listing, images=images, resolution=self.resolution)
        bar = self._bar(f"decoding {self.split}", len(listing), done)
        unreadable = sum(len(chunk.unreadable) for chunk in journal.finished.values())
        chunks = decode_chunks(decoding, todo, min(self.workers, len(todo)))
        with bar, contextlib.closing(chunks):
            for chunk in chunks:
                journal.add(chunk)
                start, stop = listing.bounds(chunk.chunk)
                unreadable += len(chunk.unreadable)
                bar.set_postfix(unreadable=unreadable, refresh=False)
                bar.update(stop - start)

    def _bar(self, what: str, total: int, done: int = 0) -> tqdm:
        return tqdm(total=total, initial=done, desc=what, unit="image", disable=not self.progress, delay=0.5)

    def _require_readable(self, listing: Listing, finished: Mapping[int, DecodedChunk]) -> dict[int, str]:
        """Return the places of unreadable files and what is wrong with each, or raise if there are too many."""
        found = {}
        for index in sorted(finished):
            if finished[index].unreadable:
                files, (start, _) = listing.files(index), listing.bounds(index)
                for gap, reason in finished[index].unreadable:
                    found[start + gap] = f"{_written(files[gap])}: {reason}"
        names = unreadable_names(self.target, self.split)
        if found:
            write_atomically(names, "".join(f"{each}\n" for each in found.values()))
        else:
            names.unlink(missing_ok=True)
        if len(found) > self.allow_unreadable * len(listing):
            raise InputError(
                f"source = {str(self.folder.path)!r}: {len(found)} of {len(listing)} images are unreadable, more than "
                f"the share of {self.allow_unreadable:g} that is allowed: named in {names}, first "
                f"{next(iter(found.values()))}; mend them, or pass --allow-unreadable: what is decoded is kept, and "
                "the same command goes on"
            )
        return found

    def _settle(
        self,
        listing: Listing,
        finished: Mapping[int, DecodedChunk],
        sets: tuple[frozenset[int], ...] | None,
        unreadable: Mapping[int, str],
    ) -> None:
        """Close the gaps, find digest and sums, and write what is known."""
        settling = Settling(self.part / IMAGES, listing, finished, self._image_bytes)
        if not settling.kept:
            raise InputError(f"source = {str(self.folder.path)!r}: none of {len(listing)} images can be read")
        shape = (settling.kept, 3, self.resolution, self.resolution)
        labels = np.delete(listing.labels(), list(unreadable)).astype("<i8")
        hashed = hashlib.sha256(canonical_json({"shape": list(shape), "classes": list(self.folder.classes)}).encode())
        sums = None
        with self._bar(f"checking {self.split}", settling.kept) as bar:

            def look(content: memoryview) -> None:
                nonlocal sums
                hashed.update(content)
                if len(content):
                    seen = torch.from_numpy(np.frombuffer(content, dtype=np.uint8)).view(-1, *shape[1:])
                    sums = add_sums(sums, channel_sums(seen))
                bar.update(len(content) // self._image_bytes)

            settling.run(look)
        hashed.update(labels.data)
        note = StoreNote(
            shape=shape,
            classes=self.folder.classes,
            name=self.name,
            split=self.split,
            digest=hashed.hexdigest(),
            sums=sums,
            labels_digest=sha256(labels.tobytes()),
            label_sets=sets and tuple(each for index, each in enumerate(sets) if index not in unreadable),
            source=self._provenance(listing),
            unreadable=tuple(unreadable.values()),
        )
        write_atomically(self.part / LABELS, labels.tobytes())
        write_atomically(self.part / NOTE, note.to_json())

    def _label_sets(self, listing: Listing) -> tuple[frozenset[int], ...] | None:
        if self.real_labels is None:
            return None
        paths = [path for chunk in range(len(listing.keys)) for path in listing.files(chunk)]
        return join_real_labels(self.real_labels, paths, listing.labels(), len(self.folder.classes))

    def _provenance(self, listing: Listing) -> str:
        return canonical_json({**self._source(listing), "decoder": decoder()})

    def _publish(self) -> None:
        """Leave in the folder what a store is, and give it its name."""
        for path in self.part.iterdir():
            if path.name not in (IMAGES, LABELS, NOTE):
                path.unlink()
        self.part.rename(self.target)
        sync_folder(self.target.parent)


def _written(path: str) -> str:
    """Return a path for a text, whatever its bytes are."""
    return os.fsencode(path).decode(errors="backslashreplace")


def unreadable_names(target: Path, split: str) -> Path:
    """Return the file in which the unreadable files of a split are named."""
    return target.with_name(f"{split}.unreadable.txt")


def require_room(folder: Path, needed: int) -> None:
    """Raise unless the disk has room for so many bytes of images."""
    free, needed = shutil.disk_usage(folder).free, needed + _SPARE_BYTES
    if free < needed:
        raise InputError(
            f"out = {str(folder)!r}: expected room for {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
        )


def require_source(target: Path, note: StoreNote | BetonNote, source: Mapping[str, object]) -> None:
    """Raise unless a store or a .beton file was made of what it would be made of now.

    Raises
    ------
    InputError
        Naming what differs.
    """
    try:
        found = json.loads(note.source or "")
    except ValueError:
        found = {}
    other = next((name for name, value in source.items() if found.get(name) != value), None)
    if other is not None:
        raise InputError(
            f"out = {str(target)!r}: is there already, with {other} {found.get(other)!r}, not {source[other]!r}: give "
            "another folder, or remove it"
        )
