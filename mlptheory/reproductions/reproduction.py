"""What a paper reports, and the runs that it takes to measure it here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlptheory.base.configuration import require_integer
from mlptheory.base.errors import InputError, invalid, unknown_name
from mlptheory.training import Recipe, TestTimeAugmentation
from mlptheory.trials import STANDARD_OBSERVERS, Measurement, Trial

QUANTITIES = {
    "test": "test_accuracy",
    "tta": "tta_accuracy",
    "real": "real_accuracy",
    "tta_real": "tta_real_accuracy",
}
"""What a paper's number is of, and the metric of a record that stands beside it.

ReaL labels are of ImageNet's images alone: a test set has them where it was converted with them.
"""


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """A number of a paper.

    Attributes
    ----------
    dataset : str
        Whose test set it is of.
    quantity : {"test", "tta", "real", "tta_real"}
        Test accuracy of single images, under test-time augmentation, or the same against reassessed labels (ReaL).
    percent : float
    spread : float or None
        What the paper puts behind ±, in percentage points.
    """

    dataset: str
    quantity: str
    percent: float
    spread: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The runs behind some numbers, or a figure, of a paper.

    Attributes
    ----------
    name : str
        "table1/cifar10_b-mlp_100".
    source : str
        Where the paper reports it.
    bibtex_key : str
    recipe : Recipe
        What is trained from scratch: the run itself or, before `downstream`, the pretraining.
    downstream : Recipe or None
        Fine-tuning or linear probe of what was pretrained, on each of `datasets`; its model is the pretrained one.
    datasets : tuple of str
        Where the numbers are measured: those that are transferred to or, without `downstream`, the recipe's own.
    grid : tuple of (path, values) pairs
        Fields of the recipes that take several values, such as ("pretraining.budget.amount", (50, 100)), and all
        combinations of them.
    tta : TestTimeAugmentation or None
        Views over which the last nets are evaluated besides.
    picture_units : int or None
        Draw so many of the first layer's filters, of every run.
    numbers : tuple of PaperNumber
        What the paper gives; a figure often gives none.

    Raises
    ------
    InputError
        If a path of the grid names no field, or one that the file or the seeds decide; if its values are not scalars or
        tuples, each once; or if a number is of a dataset that is not measured.
    """

    name: str
    source: str
    bibtex_key: str
    recipe: Recipe
    downstream: Recipe | None = None
    datasets: tuple[str, ...] = ()
    grid: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    tta: TestTimeAugmentation | None = None
    picture_units: int | None = None
    numbers: tuple[PaperNumber, ...] = ()

    def __post_init__(self) -> None:
        if self.downstream is None and self.datasets != (self.recipe.data.name,):
            raise invalid("datasets", self.datasets, f"the recipe's own, {self.recipe.data.name!r}")
        if not self.datasets or len(set(self.datasets)) < len(self.datasets):
            raise invalid("datasets", self.datasets, "at least one, each once")
        if self.recipe.start != "initialization":
            raise invalid("start", self.recipe.start, "'initialization' for what is trained first")
        if self.downstream is not None and self.downstream.start == "initialization":
            raise invalid("downstream.start", "initialization", "'body' or 'parent'")
        if self.picture_units is not None:
            require_integer("picture.units", self.picture_units, 1)
            if self.downstream is not None:
                raise InputError("picture: expected a file with [recipe] and no [downstream]")
        for number in self.numbers:
            if number.dataset not in self.datasets:
                raise unknown_name("paper, dataset", number.dataset, self.datasets)
        for path, values in self.grid:
            require_own_values(path, values)
        for _ in self.cells():
            pass

    def cells(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the grid, as fields and their values; one that is empty without a grid."""
        for values in itertools.product(*(values for _, values in self.grid)):
            cell = dict(zip((path for path, _ in self.grid), values, strict=True))
            self._recipes(cell, self.datasets[0], 0)
            yield cell

    def trials(self, seeds: int = 1) -> tuple[Trial, ...]:
        """Return a trial for each seed, cell of the grid and dataset; what was pretrained is its parent.

        Parameters
        ----------
        seeds : int
            How many, from the file's own on.

        Returns
        -------
        tuple of Trial
            Labeled with the dataset, the cell and the seed.
        """
        require_integer("seeds", seeds, 1)
        return tuple(
            self._trial(cell, dataset, self.recipe.seed + seed)
            for seed in range(seeds)
            for cell in self.cells()
            for dataset in self.datasets
        )

    def _trial(self, cell: Mapping[str, Any], dataset: str, seed: int) -> Trial:
        first, last = self._recipes(cell, dataset, seed)
        views = () if self.tta is None else (_views(self.tta),)
        parents = () if last is None else (Trial(recipe=first, observers=STANDARD_OBSERVERS),)
        return Trial(
            recipe=last or first,
            parents=parents,
            measures=views,
            observers=STANDARD_OBSERVERS,
            labels=(("dataset", dataset), *cell.items(), ("seed", seed)),
        )

    def _recipes(self, cell: Mapping[str, Any], dataset: str, seed: int) -> tuple[Recipe, Recipe | None]:
        """Return what is trained first and, if there is a second stage, what then."""
        first, last = self.recipe, self.downstream
        for path, value in cell.items():
            stage, _, field = path.partition(".")
            require_stage(path, stage, last is not None)
            require_free_field(path, stage, field)
            if stage == "downstream":
                last = with_field(last, field, value, path)
            else:
                first = with_field(first, field, value, path)
        first = replace(first, seed=seed)
        if last is None:
            return first, None
        return first, replace(last, model=first.model, data=replace(last.data, name=dataset), seed=seed)


def require_stage(path: str, stage: str, transfers: bool) -> None:
    """Raise unless a path begins with a stage that the file has."""
    allowed = ("pretraining", "downstream") if transfers else ("recipe",)
    if stage not in allowed:
        raise unknown_name(f"grid, {path!r}: stage", stage, allowed)


def require_free_field(path: str, stage: str, field: str) -> None:
    """Raise if a field is decided elsewhere: cells that differ in it alone would be one run under several names."""
    table = field.partition(".")[0]
    if field == "seed":
        raise InputError(f"grid, {path!r}: expected another field, as seeds counts seeds from the file's own on")
    if stage == "downstream" and table == "model":
        raise InputError(f"grid, {path!r}: expected another field, as the model is what was pretrained")
    if stage != "pretraining" and field == "data.name":
        raise InputError(f"grid, {path!r}: expected another field, as datasets are a file's own")


def require_own_values(path: str, values: tuple[Any, ...]) -> None:
    """Raise unless values of a field of the grid are scalars or tuples, each there once.

    A value that is there twice would count as two runs, and one run's accuracy would get an interval of no width.
    """
    for value in values:
        for each in value if isinstance(value, tuple) else (value,):
            if not isinstance(each, str | bool | int | float | None):
                raise invalid(f"grid.{path}", value, "a number, a text, true, false, or a list of them")
    if not values or len(set(values)) < len(values):
        raise invalid(f"grid.{path}", values, "at least one value, each once")


def with_field(recipe: Recipe, field: str, value: Any, path: str) -> Recipe:
    """Return a recipe with a field, "budget.amount", of another value.

    Examples
    --------
    >>> with_field(Recipe(), "budget.amount", 3, "recipe.budget.amount").budget.amount
    3
    """
    plain = recipe.to_plain()
    *tables, last = field.split(".")
    inner = plain
    for table in tables:
        if not isinstance(inner.get(table), dict):
            raise unknown_name(
                f"grid, {path!r}", table, [name for name, each in inner.items() if isinstance(each, dict)]
            )
        inner = inner[table]
    if last not in inner:
        raise unknown_name(f"grid, {path!r}", last, inner)
    inner[last] = value
    return Recipe.from_plain(plain)


def _views(tta: TestTimeAugmentation) -> Measurement:
    return Measurement(name="test_time_augmentation", parameters=tuple(asdict(tta).items()))
