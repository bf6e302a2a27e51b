"""Which trials are trained as one vmapped computation: a rule of the trials and the kind of device alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mlptheory.base.errors import invalid
from mlptheory.base.files import canonical_json, sha256
from mlptheory.models.names import ParsedName
from mlptheory.training import Recipe, can_train_together, together_key
from mlptheory.trials.trial import Trial

LARGEST = 16
"""Members of one ensemble at most."""

CPU_WORK = 10_000_000
"""Parameters times batch size up to which a CPU spends more on starting operations than on arithmetic."""

CPU_PARAMETERS = 300_000
"""Parameters up to which a CPU does not spend more on moving the weights of all members than it saves."""

CUDA_BATCH_SIZE = 4096
"""Batch size up to which a GPU trains members together."""


def group_trials(trials: Sequence[Trial], device: str) -> tuple[tuple[int, ...], ...]:
    """Return which trials are trained together, by their positions.

    Trials may share a computation if they differ in nothing but their seeds and learning rates, start from their
    initialization, have no parents and can be trained together (`mlptheory.training.can_train_together`), where it
    pays. Equal trials take one place. At most 16 places make a group; more are cut, in the order of the design,
    into groups whose sizes differ by at most one.

    Parameters
    ----------
    trials : sequence of Trial
    device : str
        Type of the device, "cpu", "cuda" or "mps".

    Returns
    -------
    tuple of tuples of int
        Every position once, each group in ascending order; a group with one place is a trial by itself.

    Notes
    -----
    It pays where starting an operation costs more than its arithmetic. On a CPU that is taken to be so for MLPs of at
    most 300,000 parameters whose parameters times batch size are at most 10^7: ``benchmarks/ensemble.py``, with 8
    members for each of 2 busy cores on digits, found the speed of single runs times (95 % intervals) 2.1 to 3.6 at
    B-2/Wi-64 and batch 16, 1.1 to 1.6 at batch 128, 1.4 to 1.7 at B-2/Wi-128 and batch 4, 2.0 to 2.3 at Linear and
    batch 1024, but 0.9 to 1.1 at B-2/Wi-64 and batch 512 and 0.8 to 0.9 at B-3/Wi-256 and batch 4. On CUDA it is taken
    to be so for MLPs with batches of at most 4096, which has not been measured; elsewhere nowhere. Parameters are
    those the model's name tells, D · W² (S-MLP), D · 2k · W² (B-MLP) or (D - 1) · W² (MLP), without first layer, last
    layer and vectors, so that the rule needs no data.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> recipes = [Recipe(model=ModelConfig(name="B-1/Wi-32"), seed=seed) for seed in (0, 1, 0)]
    >>> group_trials([Trial(recipe=recipe) for recipe in recipes], "cpu")
    ((0, 1, 2),)
    """
    places: dict[Trial, list[int]] = {}
    for position, trial in enumerate(trials):
        places.setdefault(trial.unlabeled(), []).append(position)
    kinds: dict[Trial, list[Trial]] = {}
    for trial in places:
        kind = replace(trial, recipe=together_key(trial.recipe)) if _is_grouped(trial, device) else trial
        kinds.setdefault(kind, []).append(trial)
    groups = [
        sorted(position for trial in chunk for position in places[trial])
        for members in kinds.values()
        for chunk in _balanced(members)
    ]
    return tuple(sorted(map(tuple, groups)))


def distinct_members(trials: Sequence[Trial], groups: Sequence[Sequence[int]]) -> tuple[tuple[Trial, ...], ...]:
    """Return the members of each group, every trial of the design once, where it first stands.

    Parameters
    ----------
    trials : sequence of Trial
        Of the first stage or more, as far as they are decided.
    groups : sequence of sequences of int
        Positions, as `group_trials` returns them; those beyond the trials are left out.

    Returns
    -------
    tuple of tuples of Trial
        Without their labels, which change nothing that is computed.

    Raises
    ------
    InputError
        If the trials end within a group.

    Examples
    --------
    >>> one, two = (Trial(recipe=Recipe(seed=seed)) for seed in (1, 2))
    >>> distinct_members([one, two, one], ((0, 1), (2,), (3, 4))) == ((one, two),)
    True
    """
    seen: set[Trial] = set()
    found = []
    for group in groups:
        if min(group) >= len(trials):
            continue
        if max(group) >= len(trials):
            raise invalid("trials", f"{len(trials)} trials", "whole stages of the design that the schedule was made of")
        members = dict.fromkeys(plain for plain in (trials[each].unlabeled() for each in group) if plain not in seen)
        seen.update(members)
        if members:
            found.append(tuple(members))
    return tuple(found)


def describe_members(members: Sequence[Trial]) -> tuple[dict[str, Any], ...]:
    """Return what is said of each member of an ensemble: the digest of all in order, how many, and which it is."""
    digest = sha256(canonical_json([member.computed() for member in members]))
    return tuple({"members": digest, "size": len(members), "position": each} for each in range(len(members)))


def _is_grouped(trial: Trial, device: str) -> bool:
    recipe = trial.recipe
    return (
        recipe is not None
        and recipe.start == "initialization"
        and not trial.parents
        and _pays(recipe, device)
        and can_train_together(recipe)
    )


def _pays(recipe: Recipe, device: str) -> bool:
    name, batch_size = recipe.model.parsed, recipe.budget.batch_size
    if name.family not in ("S", "B", "MLP", "Linear"):
        return False
    if device == "cuda":
        return batch_size <= CUDA_BATCH_SIZE
    parameters = _told_parameters(name)
    return device == "cpu" and parameters <= CPU_PARAMETERS and parameters * batch_size <= CPU_WORK


def _told_parameters(name: ParsedName) -> int:
    """Return the entries of the matrices between first and last layer, as the model's name tells them."""
    if name.depth is None or name.width is None:
        return 0
    matrix = name.width**2 if name.expansion is None else 2 * name.expansion * name.width**2
    return (name.depth - (name.family == "MLP")) * matrix


def _balanced(members: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
    count = math.ceil(len(members) / LARGEST)
    edges = [index * len(members) // count for index in range(count + 1)]
    for first, last in itertools.pairwise(edges):
        yield members[first:last]
