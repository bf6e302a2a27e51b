"""A trial: one training run, or one measurement of other trials' models. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mlptheory.base.configuration import to_plain
from mlptheory.base.errors import InputError
from mlptheory.training import Observer, Recipe

STANDARD_OBSERVERS = (Observer(name="evaluation", every="doubling"), Observer(name="weights", every="end"))
"""What is looked at in every run, unless there is a reason for more."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A registered measure and its parameters.

    Attributes
    ----------
    name : str
        A registered measure.
    parameters : tuple of (name, value) pairs
        Passed to the measure by name.
    """

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The unit of work, and of analysis.

    Attributes
    ----------
    recipe : Recipe or None
        What is trained; None for a trial that only measures its parents.
    parents : tuple of Trial
        Trials whose weights this one starts from or measures; they run first.
    measures : tuple of Measurement
        Taken of the trained model, or of the parents' models where there is no recipe.
    observers : tuple of Observer
        What is looked at during training.
    labels : tuple of (name, value) pairs
        The columns by which a design tells its trials apart (arm, block); they change nothing that is computed
        and are not part of the digest.

    Raises
    ------
    InputError
        If there is neither a recipe nor a parent, or the recipe starts from a parent that is not there.
    """

    recipe: Recipe | None = None
    parents: tuple[Trial, ...] = ()
    measures: tuple[Measurement, ...] = ()
    observers: tuple[Observer, ...] = ()
    labels: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.recipe is None and not (self.parents and self.measures):
            raise InputError("trial: expected a recipe, or parents and measures of them")
        if self.recipe is None and self.observers:
            raise InputError("trial: observers look at training, but there is no recipe")
        start = "initialization" if self.recipe is None else self.recipe.start
        if start != "initialization" and not (self.parents and self.parents[0].recipe):
            raise InputError(f"trial: start = {start!r}: expected a first parent that is trained, but there is none")

    def computed(self) -> dict[str, Any]:
        """Return what decides the trial's outcome, as plain data; parents and labels are not part of it."""
        return {
            "recipe": None if self.recipe is None else self.recipe.to_plain(),
            "measures": to_plain(self.measures),
            "observers": to_plain(self.observers),
        }

    def unlabeled(self) -> Trial:
        """Return the trial without its labels and those of its ancestors; equal ones compute the same."""
        return replace(self, labels=(), parents=tuple(parent.unlabeled() for parent in self.parents))

    def with_ancestors(self) -> Iterator[Trial]:
        """Yield every trial this one needs, parents before children, then itself."""
        for parent in self.parents:
            yield from parent.with_ancestors()
        yield self
