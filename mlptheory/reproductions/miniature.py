"""A reproduction in small: the same stages, operators and optimizer on digits, within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlptheory.models import parse_name
from mlptheory.reproductions.reproduction import Reproduction
from mlptheory.training import Recipe

WHOLE, SOURCE, TARGET = "digits", "digits-0-4", "digits-5-9"
"""Datasets: of runs from scratch, of pretraining, and of what it is transferred to."""
DEPTH, WIDTH, IMAGE_SIZE, EXAMPLES, EPOCHS, BATCH_SIZE, VIEWS = 2, 32, 16, 200, 2, 64, 4
POINTS = 2
"""Values of each field of a grid."""


def miniature(reproduction: Reproduction) -> Reproduction:
    """Return a reproduction that runs within seconds and passes through everything that the whole one does.

    Data, sizes and lengths are small; architecture, augmentation, optimizer, learning rates, smoothing, stages and
    views are those of the file. Its numbers say that the recipe runs, and nothing of the paper's.

    Parameters
    ----------
    reproduction : Reproduction

    Returns
    -------
    Reproduction
        Its fields of a grid take their first two values' ranks; it holds none of the paper's numbers.

    Examples
    --------
    >>> from mlptheory.training import BudgetConfig, DataConfig
    >>> recipe = Recipe(data=DataConfig(name="cifar10"), budget=BudgetConfig(amount=5000))
    >>> full = Reproduction(name="x", source="y", bibtex_key="z", recipe=recipe, datasets=("cifar10",))
    >>> miniature(full).recipe.data.name, miniature(full).recipe.budget.amount
    ('digits', 2)
    """
    transfers = reproduction.downstream is not None
    recipe = _small(reproduction.recipe, SOURCE if transfers else WHOLE)
    return replace(
        reproduction,
        recipe=recipe,
        downstream=_small(reproduction.downstream, TARGET) if transfers else None,
        datasets=(TARGET if transfers else WHOLE,),
        grid=tuple((path, _small_values(path, values)) for path, values in reproduction.grid),
        tta=None if reproduction.tta is None else replace(reproduction.tta, views=VIEWS),
        numbers=(),
    )


def _small(recipe: Recipe, dataset: str) -> Recipe:
    data, budget = recipe.data, recipe.budget
    return replace(
        recipe,
        data=replace(
            data,
            name=dataset,
            n=None if data.n is None else EXAMPLES,
            image_size=None if data.image_size is None else IMAGE_SIZE,
        ),
        model=replace(recipe.model, name=_small_name(recipe.model.name, WIDTH)),
        budget=replace(
            budget,
            amount=EPOCHS,
            batch_size=min(BATCH_SIZE, budget.batch_size),
            microbatch=None if budget.microbatch is None else BATCH_SIZE // 2,
        ),
    )


def _small_name(name: str, width: int) -> str:
    parsed = parse_name(name)
    if parsed.width is None:
        return name
    rest = name.partition(f"/Wi-{parsed.width}")[2]
    return f"{parsed.family}-{min(DEPTH, parsed.depth)}/Wi-{min(width, parsed.width)}{rest}"


def _small_values(path: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return small values of a field of a grid that keep their order."""
    ranks = range(1, min(POINTS, len(values)) + 1)
    field = path.rpartition(".")[2]
    if field == "n":
        return tuple(EXAMPLES // 2 * rank for rank in ranks)
    if field == "amount":
        return tuple(ranks)
    if field == "batch_size":
        return tuple(BATCH_SIZE // 4 * rank for rank in ranks)
    if path.endswith("model.name"):
        names = (_small_name(value, WIDTH // POINTS * rank) for rank, value in zip(ranks, values, strict=False))
        return tuple(dict.fromkeys(names))
    return tuple(values[:POINTS])
