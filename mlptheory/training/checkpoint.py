"""Checkpoints of a run in progress: whole or absent, for one recipe, resumed to the same bits."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from mlptheory.base.files import write_atomically


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
    write_atomically(path, buffer.getvalue())


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
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found, state = content["run"], content["state"]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        warnings.warn(f"checkpoint {path} is damaged ({type(error).__name__}); set aside as {aside.name}", stacklevel=2)
        return None
    return state if found == run else None
