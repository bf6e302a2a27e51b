"""Checkpoints of a run in progress: whole or absent, for one recipe, resumed to the same bits."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from mlptheory.base.files import set_aside, sha256, write_atomically
from mlptheory.training.parallel import World

_DIGEST_LENGTH = 64


def save_checkpoint(path: Path, run: str, state: dict[str, Any]) -> None:
    """Write the state of a run.

    Parameters
    ----------
    path : Path
    run : str
        Identifies the run; a checkpoint is only ever resumed by the run that wrote it.
    state : dict
        Tensors and plain data.
    """
    buffer = io.BytesIO()
    torch.save({"run": run, "state": state}, buffer)
    content = buffer.getvalue()
    # torch does not check what it reads: without a digest a flipped bit would train on.
    write_atomically(path, sha256(content).encode() + content)


def load_checkpoint(path: Path, run: str, device: str) -> dict[str, Any] | None:
    """Read the state of a run, if there is one to resume.

    Returns
    -------
    dict or None
        None where there is no checkpoint, where another run wrote it, or where it is damaged; a damaged file is
        named in a warning and set aside as ``NAME.damaged``.
    """
    if not path.is_file():
        return None
    written = path.read_bytes()
    digest, content = written[:_DIGEST_LENGTH], written[_DIGEST_LENGTH:]
    if sha256(content).encode() != digest:
        return set_aside(path, "checkpoint", "its bytes are not those that were written")
    try:
        found, state = _parsed(content, device)
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        return set_aside(path, "checkpoint", type(error).__name__)
    return state if found == run else None


def load_shared_checkpoint(path: Path | None, run: str, device: str, world: World) -> dict[str, Any] | None:
    """Read the state of a run in every process from the first one's file, if that has one; as `load_checkpoint`."""
    state = None if path is None or not world.is_first else load_checkpoint(path, run, device)
    if world.size == 1:
        return state
    written = world.share(b"" if state is None else path.read_bytes())
    if written and not world.is_first:
        _, state = _parsed(written[_DIGEST_LENGTH:], device)
    return state


def _parsed(content: bytes, device: str) -> tuple[str, dict[str, Any]]:
    saved = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return saved["run"], saved["state"]
