"""What can be refused before the first trial runs: recipes that do not fit their data."""

from __future__ import annotations

from collections.abc import Sequence

from mlptheory.base.errors import invalid
from mlptheory.training import prepare_examples
from mlptheory.training.recipe import DataConfig
from mlptheory.trials.trial import Trial


def require_fitting_data(trials: Sequence[Trial], data_root: str | None = None) -> None:
    """Raise unless every trial's recipe, and those of all its ancestors, can draw its batches.

    A worker would find it too, but only after other trials have run.

    Parameters
    ----------
    trials : sequence of Trial
    data_root : str, optional
        Where official dataset files are looked for first.

    Raises
    ------
    InputError
        Naming a batch size larger than its training set, a subset or validation set larger than the dataset, or a
        dataset that is not there.

    Examples
    --------
    >>> from mlptheory.training import BudgetConfig, DataConfig, Recipe
    >>> recipe = Recipe(data=DataConfig(n=64), budget=BudgetConfig(batch_size=65))
    >>> require_fitting_data([Trial(recipe=recipe)])
    Traceback (most recent call last):
    ...
    mlptheory.base.errors.InputError: batch_size = 65: expected at most 64, the size of the training set
    """
    sizes: dict[DataConfig, int] = {}
    for trial in trials:
        for each in trial.with_ancestors():
            if each.recipe is None:
                continue
            data, batch_size = each.recipe.data, each.recipe.budget.batch_size
            if data not in sizes:
                sizes[data] = len(prepare_examples(data, each.recipe.seed, data_root).train)
            if batch_size > sizes[data]:
                raise invalid("batch_size", batch_size, f"at most {sizes[data]}, the size of the training set")
