"""The name of a record: a digest of everything that decides what it holds."""

from __future__ import annotations

import ast
import inspect
import marshal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlptheory
from mlptheory.base.files import canonical_json, sha256
from mlptheory.base.registry import Registry
from mlptheory.trials.grouping import describe_members, distinct_members
from mlptheory.trials.schedule import Schedule
from mlptheory.trials.trial import Trial

ROOMS = ("base", "data", "models", "training", "measures")
LIBRARIES = ("torch", "lion-pytorch", "numpy")
"""Whose versions can change what a trial computes."""

OF_TRIALS = (
    "looks.py",
    "measuring.py",
    "record.py",
    "registered.py",
    "registered_accuracy.py",
    "registered_edge.py",
    "registered_features.py",
    "registered_filters.py",
    "registered_kernel_regression.py",
    "registered_kernels.py",
    "registered_linearized.py",
    "registered_neighbors.py",
    "registered_permuted.py",
    "registered_symmetry.py",
    "run.py",
)
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


_DIGESTS = {".py": source_digest, ".c": sha256}


@lru_cache(maxsize=1)
def _own_code_digest() -> str:
    package = Path(mlptheory.__file__).parent
    files = sorted(file for room in ROOMS for file in (package / room).rglob("*") if file.suffix in _DIGESTS)
    files += [package / "trials" / name for name in OF_TRIALS]
    digests = [[file.relative_to(package).as_posix(), _DIGESTS[file.suffix](file.read_text())] for file in files]
    return sha256(canonical_json(digests))


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
    """Return the SHA-256 that names the record of a trial that is trained by itself, as are its ancestors.

    Parameters
    ----------
    trial : Trial
    data_digests : mapping of dataset name to digest
        Of the datasets as found on this machine.
    schedule : Schedule
        Its execution mode (device type, threads, precision) is part of the digest; its groups are not looked at.
    code : str, optional
        As `code_digest` returns it; computed if None.

    Returns
    -------
    str
        Of the canonical JSON of what is computed, the parents' digests, the data, the execution mode, the versions
        of torch, lion-pytorch and NumPy, and the code.
    """
    alone = replace(schedule, groups=())
    return digest_trials([trial], schedule=alone, data_digests=data_digests, code=code)[trial]


class Digests(Mapping[Trial, str]):
    """The digest of every trial of a design and of all their ancestors, whatever their labels; and who trains together.

    Parameters
    ----------
    by_trial : mapping of Trial to str
    groups : sequence of sequences of Trial
        The members, in order, of each ensemble of at least two.
    """

    def __init__(self, by_trial: Mapping[Trial, str], groups: Sequence[Sequence[Trial]] = ()) -> None:
        self._by_trial = {trial.unlabeled(): digest for trial, digest in by_trial.items()}
        self.groups = tuple(tuple(members) for members in groups if len(members) > 1)

    def __getitem__(self, trial: Trial) -> str:
        return self._by_trial[trial.unlabeled()]

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._by_trial)

    def __len__(self) -> int:
        return len(self._by_trial)


def digest_trials(
    trials: Sequence[Trial], *, schedule: Schedule, data_digests: Mapping[str, str], code: str | None = None
) -> Digests:
    """Return the SHA-256 that names each trial's record, that of an ensemble's member covering all members.

    Parameters
    ----------
    trials : sequence of Trial
        The design's, from the first; the last may be that of a stage before others that are not decided yet.
    schedule : Schedule
        As `plan_schedule` made it for all stages: execution mode and groups.
    data_digests : mapping of dataset name to digest
        Of the datasets as found on this machine.
    code : str, optional
        As `code_digest` returns it; computed if None.

    Returns
    -------
    Digests
        By trial, all ancestors included. A trial that equals an earlier one, be it of another stage or but for its
        labels, is that one: its digest is the earlier one's, and a group that it would stand in goes without it.

    Raises
    ------
    InputError
        If the trials end within a group.
    """
    code = code or code_digest()
    groups = distinct_members(trials, schedule.groups)
    ensembles = {
        member: ensemble
        for members in groups
        if len(members) > 1
        for member, ensemble in zip(members, describe_members(members), strict=True)
    }
    found: dict[Trial, str] = {}

    def digest(plain: Trial) -> str:
        if plain not in found:
            found[plain] = sha256(
                canonical_json(
                    {
                        **plain.computed(),
                        "parents": [digest(parent) for parent in plain.parents],
                        "data": None if plain.recipe is None else data_digests[plain.recipe.data.name],
                        "execution": schedule.execution(plain.recipe, ensembles.get(plain)),
                        "libraries": {name: version(name) for name in LIBRARIES},
                        "code": code,
                    }
                )
            )
        return found[plain]

    for trial in trials:
        digest(trial.unlabeled())
    return Digests(found, groups)
