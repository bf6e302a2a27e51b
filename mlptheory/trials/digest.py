"""The name of a record: a digest of everything that decides what it holds."""

from __future__ import annotations

import ast
import inspect
import marshal
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlptheory
from mlptheory.base.files import canonical_json, sha256
from mlptheory.base.registry import Registry
from mlptheory.trials.schedule import Schedule
from mlptheory.trials.trial import Trial

ROOMS = ("base", "data", "models", "training", "measures")
OF_TRIALS = ("registered.py", "run.py", "record.py")
"""Files of this room that decide what a record holds."""


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return tree


def source_digest(source: str) -> str:
    """Return the digest of a source text's syntax tree without docstrings, comments and layout.

    Examples
    --------
    >>> source_digest("x = 1  # one") == source_digest("x=1"), source_digest("x = 1") == source_digest("x = 2")
    (True, False)
    """
    return sha256(ast.dump(_without_docstrings(ast.parse(source))))


@lru_cache(maxsize=1)
def _own_code_digest() -> str:
    package = Path(mlptheory.__file__).parent
    files = sorted(file for room in ROOMS for file in (package / room).rglob("*.py"))
    files += [package / "trials" / name for name in OF_TRIALS]
    return sha256(
        canonical_json([[file.relative_to(package).as_posix(), source_digest(file.read_text())] for file in files])
    )


def code_digest() -> str:
    """Return the digest of the code that trains and measures, users' registered code included."""
    return sha256(canonical_json([_own_code_digest(), _registered_code()]))


def _registered_code() -> dict[str, str]:
    from mlptheory.data import datasets
    from mlptheory.models import models
    from mlptheory.training import observers
    from mlptheory.trials.registered import measures

    registries: list[Registry] = [datasets, models, observers, measures]
    found = {}
    for registry in registries:
        for name in registry:
            module = inspect.getmodule(registry[name])
            if module is None or module.__name__.split(".")[0] == "mlptheory":
                continue
            try:
                found[f"{registry.kind} {name}"] = source_digest(inspect.getsource(module))
            except (OSError, TypeError):  # no file, as in a notebook: the object's own source is all there is
                found[f"{registry.kind} {name}"] = _own_source(registry[name])
    return found


def _own_source(target: Any) -> str:
    try:
        return sha256(inspect.getsource(target))
    except (OSError, TypeError):
        return sha256(marshal.dumps(target.__code__) if hasattr(target, "__code__") else target.__qualname__)


def trial_digest(trial: Trial, *, data_digests: Mapping[str, str], schedule: Schedule, code: str | None = None) -> str:
    """Return the SHA-256 that names a trial's record.

    Parameters
    ----------
    trial : Trial
    data_digests : mapping of dataset name to digest
        Of the datasets as found on this machine.
    schedule : Schedule
        Its execution mode (device type, threads, precision, compilation) is part of the digest.
    code : str, optional
        As `code_digest` returns it; computed if None.

    Returns
    -------
    str
        Of the canonical JSON of what is computed, the parents' digests, the data, the execution mode, torch's
        version and the code.
    """
    code = code or code_digest()
    return sha256(
        canonical_json(
            {
                **trial.computed(),
                "parents": [
                    trial_digest(parent, data_digests=data_digests, schedule=schedule, code=code)
                    for parent in trial.parents
                ],
                "data": None if trial.recipe is None else data_digests[trial.recipe.data.name],
                "execution": schedule.execution(trial.recipe),
                "torch": version("torch"),
                "code": code,
            }
        )
    )
