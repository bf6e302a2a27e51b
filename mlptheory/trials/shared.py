"""A store that several processes see alike: the first one's, which alone reads and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlptheory.base.files import canonical_json
from mlptheory.trials.record import Record
from mlptheory.trials.store import Store

if TYPE_CHECKING:
    from mlptheory.training.parallel import World


class SharedStore:
    """The first process's store, in every process that trains one model; each call is one that all of them make.

    Parameters
    ----------
    store : Store
        Of the first process; what the others give is not looked at.
    world : World
    """

    def __init__(self, store: Store, world: World) -> None:
        self._store, self._world = store, world

    def get(self, digest: str) -> Record | None:
        """Return a record, or None."""
        found = self._store.get(digest) if self._world.is_first else None
        text = self._world.share(b"" if found is None else found.to_json().encode())
        return Record.from_json(text.decode()) if text else None

    def put(self, record: Record) -> None:
        """Keep the first process's record."""
        self._world.first(lambda: self._store.put(record))

    def get_weights(self, digest: str) -> bytes | None:
        """Return a trial's weights as safetensors bytes, or None."""
        found = self._store.get_weights(digest) if self._world.is_first else None
        # Weights are never empty: safetensors begin with a header.
        return self._world.share(found or b"") or None

    def put_weights(self, digest: str, weights: bytes) -> None:
        """Keep a trial's weights."""
        self._world.first(lambda: self._store.put_weights(digest, weights))

    def checkpoint_path(self, digest: str) -> Path | None:
        """Return where the first process keeps the state of a trial in progress, or None."""
        return self._store.checkpoint_path(digest)

    def drop_checkpoint(self, digest: str) -> None:
        """Forget the state of a trial whose record is kept."""
        self._world.first(lambda: self._store.drop_checkpoint(digest))

    def get_schedule(self, design: str) -> dict[str, Any] | None:
        """Return the schedule a design was begun with, or None."""
        found = self._store.get_schedule(design) if self._world.is_first else None
        return json.loads(self._world.share(canonical_json(found).encode()))

    def put_schedule(self, design: str, schedule: dict[str, Any]) -> None:
        """Keep the schedule of a design."""
        self._world.first(lambda: self._store.put_schedule(design, schedule))
