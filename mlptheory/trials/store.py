"""Where records are kept: a folder, one file a record, or memory."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any, Protocol

from mlptheory.base.configuration import from_plain
from mlptheory.base.errors import DamagedFileError
from mlptheory.base.files import canonical_json, set_aside, sha256, writable_folder, write_atomically
from mlptheory.trials.record import Record
from mlptheory.trials.schedule import Schedule


class Store(Protocol):
    """What an executor needs of a store."""

    def get(self, digest: str) -> Record | None:
        """Return a record, or None."""

    def put(self, record: Record) -> None:
        """Keep a record."""

    def get_weights(self, digest: str) -> bytes | None:
        """Return a trial's weights as safetensors bytes, or None."""

    def put_weights(self, digest: str, weights: bytes) -> None:
        """Keep a trial's weights."""

    def checkpoint_path(self, digest: str) -> Path | None:
        """Return where a trial or a group in progress keeps its state, or None where nothing is written."""

    def drop_checkpoint(self, digest: str) -> None:
        """Forget the state of a trial or a group whose records are all kept."""

    def get_schedule(self, design: str) -> dict[str, Any] | None:
        """Return the schedule a design was begun with, or None."""

    def put_schedule(self, design: str, schedule: dict[str, Any]) -> None:
        """Keep the schedule of a design before its first trial."""


class MemoryStore:
    """Records in memory; nothing is written, nothing outlives the process."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._weights: dict[str, bytes] = {}
        self._schedules: dict[str, dict[str, Any]] = {}

    def get(self, digest: str) -> Record | None:
        """Return a record, or None."""
        return self._records.get(digest)

    def put(self, record: Record) -> None:
        """Keep a record."""
        self._records[record.digest] = record

    def get_weights(self, digest: str) -> bytes | None:
        """Return a trial's weights as safetensors bytes, or None."""
        return self._weights.get(digest)

    def put_weights(self, digest: str, weights: bytes) -> None:
        """Keep a trial's weights."""
        self._weights[digest] = weights

    def checkpoint_path(self, digest: str) -> Path | None:
        """Return None: nothing is written."""
        return None

    def drop_checkpoint(self, digest: str) -> None:
        """Do nothing: nothing is written."""

    def get_schedule(self, design: str) -> dict[str, Any] | None:
        """Return the schedule a design was begun with, or None."""
        return self._schedules.get(design)

    def put_schedule(self, design: str, schedule: dict[str, Any]) -> None:
        """Keep the schedule of a design."""
        self._schedules[design] = schedule


class FolderStore:
    """Records in a folder, safe for several processes: files appear whole, by renaming, and are never changed.

    Parameters
    ----------
    folder : path-like
        Holds ``records/DIGEST.json``, ``weights/DIGEST.safetensors`` (and ``.sha256``), ``checkpoints/DIGEST.pt`` and
        ``schedules/DESIGN.json``.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = writable_folder("store", folder)
        for room in ("records", "weights", "checkpoints", "schedules"):
            writable_folder("store", self.folder / room)

    def _record_path(self, digest: str) -> Path:
        return self.folder / "records" / f"{digest}.json"

    def _weights_path(self, digest: str) -> Path:
        return self.folder / "weights" / f"{digest}.safetensors"

    def get(self, digest: str) -> Record | None:
        """Return a record, or None; a damaged one is named in a warning, set aside and counts as absent."""
        path = self._record_path(digest)
        try:
            record = Record.from_json(path.read_text(encoding="utf-8"))
            if record.digest != digest:
                raise DamagedFileError("it holds another trial")
        except FileNotFoundError:
            return None
        except (DamagedFileError, UnicodeDecodeError) as error:
            set_aside(path, "record", str(error))
            return None
        return record

    def put(self, record: Record) -> None:
        """Write a record."""
        write_atomically(self._record_path(record.digest), record.to_json())

    def get_weights(self, digest: str) -> bytes | None:
        """Return a trial's weights as safetensors bytes, or None; damaged ones are treated as a record is."""
        path = self._weights_path(digest)
        try:
            weights = path.read_bytes()
            if path.with_suffix(".sha256").read_text(encoding="utf-8") != sha256(weights):
                raise DamagedFileError("its content does not match its checksum")
        except FileNotFoundError:
            return None
        except (DamagedFileError, UnicodeDecodeError) as error:
            set_aside(path, "weights", str(error))
            return None
        return weights

    def put_weights(self, digest: str, weights: bytes) -> None:
        """Write a trial's weights, their checksum beside them."""
        path = self._weights_path(digest)
        write_atomically(path.with_suffix(".sha256"), sha256(weights))
        write_atomically(path, weights)

    def checkpoint_path(self, digest: str) -> Path:
        """Return where a trial or a group in progress keeps its state."""
        return self.folder / "checkpoints" / f"{digest}.pt"

    def drop_checkpoint(self, digest: str) -> None:
        """Delete the state of a trial or a group whose records are all kept."""
        self.checkpoint_path(digest).unlink(missing_ok=True)

    def get_schedule(self, design: str) -> dict[str, Any] | None:
        """Return the schedule a design was begun with, or None where there is none or it is damaged."""
        path = self.folder / "schedules" / f"{design}.json"
        try:
            schedule = json.loads(path.read_text(encoding="utf-8"))
            from_plain(Schedule, schedule, "schedule")
            return schedule
        except FileNotFoundError:
            return None
        except ValueError:
            warnings.warn(f"schedule {path.name} is damaged; planned again", stacklevel=2)
            return None

    def put_schedule(self, design: str, schedule: dict[str, Any]) -> None:
        """Write the schedule of a design."""
        write_atomically(self.folder / "schedules" / f"{design}.json", canonical_json(schedule) + "\n")


def open_store(store: str | os.PathLike[str] | Store | None) -> Store:
    """Return the store that an argument names: a folder, memory for None, or the store itself.

    In several processes that train one model it is the first one's, whatever the others name.
    """
    from mlptheory.training.parallel import join
    from mlptheory.trials.shared import SharedStore

    world = join()
    if isinstance(store, (str, os.PathLike)):
        folder = store
        store = world.first(lambda: FolderStore(folder))
    found = MemoryStore() if store is None else store
    return found if world.size == 1 else SharedStore(found, world)
