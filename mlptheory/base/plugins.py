"""Users' own datasets, models and probes: imported from installed packages or from a file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from mlptheory.base.errors import InputError

ENTRY_POINT_GROUP = "mlptheory.plugins"


def load_plugins(files: Sequence[str] = ()) -> None:
    """Import every installed plugin (entry-point group ``mlptheory.plugins``), then each file, once.

    Parameters
    ----------
    files : sequence of str
        Python files that register something.

    Raises
    ------
    InputError
        If a file is missing or fails to import.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry_point.load()
    for file in files:
        path = Path(file).resolve()
        name = f"mlptheory_plugin_{path.stem}"
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(path):
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError(f"plugin = {file!r}: expected a Python file that exists")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise InputError(f"plugin = {file!r}: importing it failed: {type(error).__name__}: {error}") from error
