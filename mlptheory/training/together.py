"""Which recipes can be trained as one computation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlptheory.base.errors import InputError, invalid
from mlptheory.models.names import RESNETS
from mlptheory.training.recipe import Recipe

FAMILIES = ("S", "B", "MLP", "CNN", "Linear")
"""Of models that keep nothing between steps but their parameters."""


def can_train_together(recipe: Recipe) -> bool:
    """Tell whether runs that differ from a recipe in nothing but seed and learning rate can be one ensemble.

    Not with batch normalization, whose statistics are state beside the weights, with a start from a parent, with a
    head that is trained alone or at a learning rate of its own, with microbatches, nor with a model that is not built
    in, of which nobody knows what it keeps.

    Examples
    --------
    >>> from mlptheory.models import ModelConfig
    >>> can_train_together(Recipe()), can_train_together(Recipe(model=ModelConfig(norm="batch")))
    (True, False)
    """
    return _obstacle(recipe) is None


def together_key(recipe: Recipe) -> Recipe:
    """Return what members of one ensemble share: the recipe with seed and learning rate set to fixed values.

    Examples
    --------
    >>> together_key(Recipe(seed=3)) == together_key(Recipe(seed=5))
    True
    """
    return replace(recipe, seed=0, optimizer=replace(recipe.optimizer, lr=1.0))


def require_together(recipes: Sequence[Recipe]) -> None:
    """Raise `InputError` unless these recipes can be one ensemble; the first difference is named."""
    if not recipes:
        raise InputError("recipes = (): expected at least one")
    obstacle = _obstacle(recipes[0])
    if obstacle is not None:
        raise obstacle
    first = together_key(recipes[0])
    for index, recipe in enumerate(recipes):
        other = together_key(recipe)
        if other != first:
            name, value, expected = _first_difference(other.to_plain(), first.to_plain())
            raise InputError(
                f"recipes[{index}].{name} = {value!r}: expected {expected!r}, as the first has: "
                "an ensemble's members differ in seed and optimizer.lr only"
            )


def _obstacle(recipe: Recipe) -> InputError | None:
    budget = recipe.budget
    if recipe.start != "initialization":
        return invalid("start", recipe.start, "'initialization' in an ensemble")
    if recipe.trained != "all":
        return invalid("trained", recipe.trained, "'all' in an ensemble")
    if recipe.optimizer.head_lr is not None:
        return invalid("optimizer.head_lr", recipe.optimizer.head_lr, "None in an ensemble")
    if recipe.model.parsed.family in RESNETS:
        return invalid("model.name", recipe.model.name, "a model without batch normalization in an ensemble")
    if recipe.model.norm == "batch":
        return invalid("model.norm", recipe.model.norm, "'layer' or 'none' in an ensemble")
    if budget.microbatch is not None and budget.microbatch < budget.batch_size:
        return invalid("budget.microbatch", budget.microbatch, "nothing in an ensemble")
    if recipe.model.parsed.family not in FAMILIES:
        return invalid("model.name", recipe.model.name, "a built-in model in an ensemble")
    return None


def _first_difference(plain: Mapping[str, Any], other: Mapping[str, Any], where: str = "") -> tuple[str, Any, Any]:
    name = next(name for name in plain if plain[name] != other[name])
    value, expected = plain[name], other[name]
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        return _first_difference(value, expected, f"{where}{name}.")
    return where + name, value, expected
