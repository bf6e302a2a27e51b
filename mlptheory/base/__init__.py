"""The cellar: what every room stands on (errors, registries, keyed randomness, safe files); imports no other room."""

from mlptheory.base.errors import (
    DamagedFileError,
    InputError,
    MissingDataError,
    invalid,
    nearest_names,
    unknown_name,
)
from mlptheory.base.launch import LostProcessError
from mlptheory.base.registry import Registry

__all__ = [
    "DamagedFileError",
    "InputError",
    "LostProcessError",
    "MissingDataError",
    "Registry",
    "invalid",
    "nearest_names",
    "unknown_name",
]
