"""From a budget to optimizer steps."""

from __future__ import annotations

from functools import lru_cache

import torch

from mlptheory.base.errors import invalid
from mlptheory.models import ModelConfig, count_macs, model_from_config
from mlptheory.training.examples import prepare_examples
from mlptheory.training.recipe import BudgetConfig, Recipe

GIGA = 10**9


def steps_per_epoch(budget: BudgetConfig, n: int) -> int:
    """Return the optimizer steps of one pass over `n` examples.

    Examples
    --------
    >>> steps_per_epoch(BudgetConfig(batch_size=64), 100)
    2
    """
    return n // budget.batch_size if budget.drop_last else -(-n // budget.batch_size)


def budget_steps(budget: BudgetConfig, n: int, macs: int | None = None) -> int:
    """Return the optimizer steps that a budget pays for.

    Parameters
    ----------
    budget : BudgetConfig
    n : int
        Training examples.
    macs : int, optional
        Multiply-accumulates of one example's forward pass; needed for a budget of compute.

    Returns
    -------
    int
        At least 1. A budget C of compute pays for C / (3 · macs) examples: whole epochs, then the rest to the nearest
        batch.

    Raises
    ------
    InputError
        If the budget is of compute and does not pay for one step.

    Examples
    --------
    >>> budget_steps(BudgetConfig(amount=3, batch_size=64), 100)
    6
    >>> budget_steps(BudgetConfig(amount=3, unit="compute", batch_size=64), 100, macs=2_000_000)
    10
    """
    if budget.unit == "steps":
        return budget.amount
    per_epoch = steps_per_epoch(budget, n)
    if budget.unit == "epochs":
        return budget.amount * per_epoch
    if macs is None:
        raise TypeError("budget_steps: a budget of compute needs macs")
    affordable = budget.amount * GIGA / (3 * macs)
    epochs, rest = divmod(affordable, min(n, per_epoch * budget.batch_size))
    steps = int(epochs) * per_epoch + round(rest / budget.batch_size)
    if steps < 1:
        least = -(-3 * macs * budget.batch_size // GIGA)
        raise invalid("budget.amount", budget.amount, f"at least {least} G MACs, the cost of one step")
    return steps


@lru_cache(maxsize=64)
def _macs(config: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> int:
    with torch.device("meta"):
        model = model_from_config(config, image_size=shape[1:], channels=shape[0], num_classes=num_classes, seed=0)
    return count_macs(model, shape)


def recipe_macs(recipe: Recipe, root: str | None = None) -> int:
    """Return the multiply-accumulates of one example's forward pass through a recipe's model.

    Parameters
    ----------
    recipe : Recipe
    root : str, optional
        Where official dataset files are looked for first.
    """
    examples = prepare_examples(recipe.data, recipe.seed, root)
    side = examples.image_size
    return _macs(recipe.model, (examples.train.image_shape[0], side, side), examples.train.num_classes)
