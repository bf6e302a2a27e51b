"""What the folder of a single run holds: its recipe, the digest of its record, its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlptheory.base.errors import InputError
from mlptheory.base.files import sha256
from mlptheory.training import Recipe


@dataclass(frozen=True)
class KeptRun:
    """A run that was kept.

    Attributes
    ----------
    recipe : Recipe
        With the precision that "auto" came to.
    digest : str
        Of its record.
    weights : bytes
        As safetensors.
    weights_sha256 : str
    """

    recipe: Recipe
    digest: str
    weights: bytes
    weights_sha256: str


def read_kept_run(folder: str | Path, argument: str) -> KeptRun:
    """Read the folder that a recipe was trained into.

    Parameters
    ----------
    folder : path-like
    argument : str
        What an error calls the folder.

    Raises
    ------
    InputError
        If there is no record or no recipe in it, or the weights are not those of the record.
    """
    folder = Path(folder)
    where = f"{argument} = {str(folder)!r}"
    try:
        held = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        plain, digest, expected = held["trial"]["recipe"], held["digest"], held["weights_sha256"]
        precision = held["trial"]["execution"]["precision"]
        weights = (folder / "model.safetensors").read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{where}: expected a folder that a recipe was trained into: no {error.filename}") from error
    except (ValueError, LookupError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: its record.json is no record of a recipe") from error
    if sha256(weights) != expected:
        raise InputError(f"{where}: model.safetensors does not hold the weights of its record.json")
    return KeptRun(Recipe.from_plain({**plain, "precision": precision}), digest, weights, expected)
