"""What a run has seen so far, for others to read while it goes on: JSON lines, and TensorBoard's event files."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mlptheory.base.errors import InputError, unknown_name
from mlptheory.base.files import write_atomically
from mlptheory.trials.record import finite_or_none

LOGS = ("tensorboard",)
"""What can be written besides the JSON lines, which always are."""

HistoryRow = tuple[int, int, str, float | None]


class Log(Protocol):
    """Holds the rows of one history."""

    def begin(self, rows: Sequence[HistoryRow]) -> None:
        """Hold these rows and no others, whatever was held before."""

    def add(self, rows: Sequence[HistoryRow]) -> None:
        """Hold these rows too."""

    def end(self, rows: Sequence[HistoryRow]) -> None:
        """Make sure that these rows are held, which are all of the history, and no others."""

    def close(self) -> None:
        """Let go of what is open."""


class JsonLines:
    """Rows as JSON, one a line, for `pandas.read_json(path, lines=True)`.

    Parameters
    ----------
    path : Path
    trial : str
        Digest of the trial that the rows are of.
    """

    def __init__(self, path: Path, trial: str) -> None:
        self._path, self._trial = path, trial

    def begin(self, rows: Sequence[HistoryRow]) -> None:
        """Cut the file back to these rows, or write it anew where it does not begin with them."""
        content = self._text(rows)
        held = self._path.read_bytes() if self._path.is_file() else None
        if held is None or not held.startswith(content):
            write_atomically(self._path, content)
        elif held != content:
            # Not written anew, so that `tail -f` goes on with the file that it has open.
            os.truncate(self._path, len(content))

    def add(self, rows: Sequence[HistoryRow]) -> None:
        """Append these rows."""
        # Opened for each look: what was written is the system's, and survives the run if it is killed.
        try:
            with self._path.open("ab") as file:
                file.write(self._text(rows))
        except OSError as error:
            # A full disk is met while writing, where the system does not say which file it was.
            error.filename = str(self._path)
            raise

    def end(self, rows: Sequence[HistoryRow]) -> None:
        """Repair what another process with the same folder may have added."""
        self.begin(rows)

    def close(self) -> None:
        """Do nothing: no file is open between calls."""

    def _text(self, rows: Sequence[HistoryRow]) -> bytes:
        columns = ("trial", "step", "epoch", "quantity", "value")
        lines = (json.dumps(dict(zip(columns, (self._trial, *row), strict=True)), allow_nan=False) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()


class EventFiles:
    """Rows as scalars by quantity and step, through `torch.utils.tensorboard.SummaryWriter`.

    Parameters
    ----------
    folder : Path
        For the event files of this log only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._writer = folder, None

    def begin(self, rows: Sequence[HistoryRow]) -> None:
        """Write a file with these rows in place of those that earlier sittings wrote."""
        self.close()
        for earlier in self._folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        self._writer = summary_writer()(self._folder)
        self.add(rows)

    def add(self, rows: Sequence[HistoryRow]) -> None:
        """Write these rows and flush them, so that a page that is open shows them."""
        for step, _, quantity, value in rows:
            self._writer.add_scalar(quantity, math.nan if value is None else value, step)
        self._writer.flush()

    def end(self, rows: Sequence[HistoryRow]) -> None:
        """Write all rows of a run that was trained without this log."""
        if self._writer is None:
            self.begin(rows)

    def close(self) -> None:
        """End the writer's thread."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def summary_writer() -> Any:
    """Return torch's SummaryWriter.

    Raises
    ------
    InputError
        If the package tensorboard, which it writes through, is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            f"log = 'tensorboard': expected the package tensorboard ({error}); pip install tensorboard installs it"
        ) from error
    return SummaryWriter


def require_log(log: str | None) -> None:
    """Raise unless the log is None or has a known name, and what it needs is installed.

    Examples
    --------
    >>> require_log("tensorbord")
    Traceback (most recent call last):
    mlptheory.base.errors.InputError: log = 'tensorbord': unknown; did you mean 'tensorboard'? (allowed: tensorboard)
    """
    if log is None:
        return
    if log not in LOGS:
        raise unknown_name("log", log, LOGS)
    summary_writer()


class RunLogs:
    """The logs of one run in its folder; a context, at whose end they are closed.

    Parameters
    ----------
    folder : Path
    trial : str
        Digest of the run.
    log : {"tensorboard"}, optional
        What to write besides metrics.jsonl.
    """

    def __init__(self, folder: Path, trial: str, log: str | None) -> None:
        self._logs: list[Log] = [JsonLines(folder / "metrics.jsonl", trial)]
        self._logs += [EventFiles(folder / "tensorboard")] if log == "tensorboard" else []
        self._known: int | None = None

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(self, *_: object) -> None:
        for log in self._logs:
            log.close()

    def follow(self, history: Sequence[HistoryRow]) -> None:
        """Write what is new in the history so far; the first call's takes the place of what the folder held.

        Parameters
        ----------
        history : sequence of (step, epoch, quantity, value)
            All rows up to now. What is no finite number is written as null, and for TensorBoard as NaN.
        """
        rows = [(*row[:3], finite_or_none(row[3])) for row in history[self._known or 0 :]]
        for log in self._logs:
            if self._known is None:
                log.begin(rows)
            elif rows:
                log.add(rows)
        self._known = len(history)

    def finish(self, history: Sequence[HistoryRow]) -> None:
        """Make sure that the logs hold a record's history, also where it was trained earlier."""
        for log in self._logs:
            log.end(history)


class NoLogs(contextlib.nullcontext):
    """Stands where nobody wants logs."""

    def __enter__(self) -> NoLogs:
        return self

    def follow(self, history: Sequence[HistoryRow]) -> None:
        """Write nothing."""

    def finish(self, history: Sequence[HistoryRow]) -> None:
        """Write nothing."""
