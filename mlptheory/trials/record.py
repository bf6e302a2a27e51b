"""What a trial came to, with the evidence."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlptheory.base.errors import DamagedFileError
from mlptheory.base.files import canonical_json, sha256

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """The outcome of one trial.

    Attributes
    ----------
    digest : str
        Names the record; see `mlptheory.trials.trial_digest`.
    trial : dict
        What was computed, as plain data, with the parents' digests.
    metrics : dict of str to float
        Quantities by name; None where a diverged run has none.
    history : tuple of (step, epoch, quantity, value)
        What was seen during training.
    predictions : str or None
        Classes predicted for the test set, packed; see `unpack_predictions`.
    diverged : dict or None
        Step and epoch of the first loss that was not finite.
    data_digest : str or None
        Of the dataset.
    environment : dict
        Versions and hardware of the machine that ran the trial.
    seconds : float
        Wall-clock time, with that of earlier sittings up to the checkpoint the run was resumed from; of a member of an
        ensemble, the whole group's divided by its members.
    """

    digest: str
    trial: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    history: tuple[tuple[int, int, str, float | None], ...] = ()
    predictions: str | None = None
    diverged: Mapping[str, int] | None = None
    data_digest: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return the record as one JSON text that carries its own checksum."""
        content = canonical_json({"schema": SCHEMA, **self.__dict__})
        return f'{{"sha256":"{sha256(content)}","record":{content}}}\n'

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record back.

        Raises
        ------
        DamagedFileError
            If the text is no JSON, not a record of this schema, or does not match its checksum.
        """
        try:
            outer = json.loads(text)
            content = outer["record"]
            if outer["sha256"] != sha256(canonical_json(content)):
                raise DamagedFileError("its content does not match its checksum")
            if content.pop("schema") != SCHEMA:
                raise DamagedFileError("it was written by another version")
            content["history"] = tuple(tuple(row) for row in content["history"])
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedFileError(f"not a whole record: {error}") from error


def finite_or_none(value: float) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return float(value) if math.isfinite(value) else None


def pack_predictions(classes: np.ndarray) -> str:
    """Return class indices as compressed text: base64 of zlib of little-endian 16-bit integers.

    Examples
    --------
    >>> unpack_predictions(pack_predictions(np.array([3, 0, 65535])))
    array([    3,     0, 65535], dtype=uint16)
    """
    return base64.b64encode(zlib.compress(np.asarray(classes).astype("<u2").tobytes(), 9)).decode()


def unpack_predictions(packed: str) -> np.ndarray:
    """Return the class indices that `pack_predictions` packed."""
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype="<u2").astype(np.uint16)
