"""The base class of a probe that compares recipes, and what it says of their difference. Imports no torch."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mlptheory.base.configuration import require_number
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.probes.comparison.columns import COLUMNS, NOT_OUTCOMES
from mlptheory.probes.folder import FolderProbe
from mlptheory.probes.probe import Column
from mlptheory.probes.settings import require_seeds, seeds_listed
from mlptheory.reports import bibtex
from mlptheory.training import Recipe
from mlptheory.trials import Measurement


@dataclass(frozen=True, kw_only=True)
class Contrast:
    r"""A claim about a weighted sum of arms, :math:`\sum_a w_a \mu_a` with :math:`\mu_a` an arm's mean over seeds.

    Attributes
    ----------
    id : str
        Short name, unique within the probe.
    statement : str
        The claim as one sentence.
    source : str
        Who claims it, and where.
    weights : mapping of arm to float
        Sum to 0: each seed gives one value of the contrast, and what it adds to all arms cancels.
    margin : float
        Smallest effect of interest δ, in `unit`.
    direction : {"greater", "less", "equivalent"}
        Whether the contrast is claimed to lie above δ, below −δ, or between the two.
    outcome : str
        A column of the table.
    scale : float
        How many of `unit` one of the column is: 100 for an accuracy, which the table holds as a share.
    unit : str
        Of contrast and margin.
    held_fixed : tuple of str
        What is the same in all arms.
    scope : str
        Where the claim is tested here.
    bibtex_key : str or None
        Of the source, among the references that come with the package.

    Raises
    ------
    InputError
        If there are fewer than two weights or they do not sum to 0, or the scale is not above 0.

    Examples
    --------
    >>> contrast = Contrast(
    ...     id="wider-is-better", statement="A wider net is better.", source="folklore", margin=1.0,
    ...     weights={"wide": 1, "narrow": -1}, held_fixed=("epochs",), scope="digits",
    ... )
    >>> contrast.unit
    'percentage points'
    """

    id: str
    statement: str
    source: str
    weights: Mapping[str, float]
    margin: float
    direction: str = "greater"
    outcome: str = "test_accuracy"
    scale: float = 100.0
    unit: str = "percentage points"
    held_fixed: tuple[str, ...]
    scope: str
    bibtex_key: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping) or len(self.weights) < 2:
            raise invalid("Contrast.weights", self.weights, "a weight for each of two arms or more")
        for arm, weight in self.weights.items():
            require_number(f"Contrast.weights[{arm!r}]", weight, -math.inf)
        total = math.fsum(self.weights.values())
        if abs(total) > 1e-9 or not any(self.weights.values()):
            raise invalid("Contrast.weights", self.weights, f"weights, not all 0, that sum to 0, not to {total:g}")
        require_number("Contrast.scale", self.scale, 0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class Comparison(FolderProbe):
    """Base of probes of one's own: recipes side by side, trained with the same seeds, and contrasts of their outcomes.

    Derive a frozen, keyword-only dataclass from it, give it `name`, `title` and `question`, and say which arms there
    are and what is claimed of them. Plan, store, verdicts, effects, figure, report, power and calibration follow.

    Attributes
    ----------
    seeds : int or tuple of int
        How many runs of every arm (seeds 0, 1, ...), or which. Runs that share a seed are paired.
    """

    caption: ClassVar[str] = (
        "Left: every run and, beside it, each arm's mean with its 95 % t interval over seeds. Right: each contrast "
        "with its own, every seed a dot; the band is the margin. The verdicts' intervals are "
        "corrected for the number of claims, these are not."
    )

    seeds: int | tuple[int, ...] = 5

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        arms, contrasts = self.arms(), self.contrasts()
        if len(arms) < 2:
            raise InputError(f"arms: expected two recipes or more, found {len(arms)}")
        for arm, recipe in arms.items():
            if not isinstance(recipe, Recipe):
                raise invalid(f"arms[{arm!r}]", recipe, "a Recipe")
        if not contrasts or len({contrast.id for contrast in contrasts}) < len(contrasts):
            raise InputError("contrasts: expected one or more, each with an id of its own")
        columns = [column.name for column in self.columns() if column.name not in NOT_OUTCOMES]
        for contrast in contrasts:
            for arm in contrast.weights:
                if arm not in arms:
                    raise unknown_name(f"contrast {contrast.id!r}, arm", arm, arms)
            if contrast.outcome not in columns:
                raise unknown_name(f"contrast {contrast.id!r}, outcome", contrast.outcome, columns)
        self.claims()  # It refuses what is no claim, and `bibtex` a source that is unknown: not after hours of runs.
        bibtex(contrast.bibtex_key for contrast in contrasts if contrast.bibtex_key)

    @abstractmethod
    def arms(self) -> Mapping[str, Recipe]:
        """Return the recipes by name; each is trained with every seed, whatever its own."""

    @abstractmethod
    def contrasts(self) -> tuple[Contrast, ...]:
        """Return what is claimed of the arms."""

    def measurements(self) -> tuple[Measurement, ...]:
        """Return what is measured of every trained model, by registered name; nothing more than usual by default."""
        return ()

    def measured(self) -> tuple[Column, ...]:
        """Return the columns that the measurements fill: names of their quantities, described."""
        return ()

    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table."""
        return (*COLUMNS[:-2], *self.measured(), *COLUMNS[-2:])

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return seeds_listed(self.seeds)
