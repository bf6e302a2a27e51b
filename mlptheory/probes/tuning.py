"""A learning rate for each cell of a design, chosen on the validation set with seeds of its own."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TUNING_SEEDS = 2_000_000
"""First seed of tuning runs, out of the way of the designs' own and of the controls'."""


@dataclass(frozen=True)
class Choice:
    """What tuning chose for one cell.

    Attributes
    ----------
    lr : float
        Of the highest mean validation accuracy over the tuning seeds; the lower validation loss, then the smaller
        learning rate, decides between equals. A learning rate at which a run diverged is not chosen.
    edge : {"", "smallest", "largest"}
        Whether it is the grid's smallest or largest, beyond which the best may lie.
    """

    lr: float
    edge: str


def choose_by(table: pd.DataFrame, cell: tuple[str, ...]) -> dict[tuple[Any, ...], Choice]:
    """Return the choice of every cell, from the tuning rows of a table and nothing else.

    Where every learning rate diverged, the smallest is taken, and is an edge.

    Parameters
    ----------
    table : DataFrame
        With the columns role, lr, validation_accuracy, validation_loss and diverged.
    cell : tuple of str
        The columns that tell the cells apart.
    """
    seen: dict[tuple[Any, ...], dict[float, list[tuple[float, float]]]] = {}
    names = ("role", "lr", "validation_accuracy", "validation_loss", "diverged", *cell)
    for role, lr, accuracy, loss, diverged, *key in zip(*(table[name].tolist() for name in names), strict=True):
        if role != "tuning":
            continue
        outcome = (-math.inf, math.inf) if diverged or not math.isfinite(accuracy) else (accuracy, loss)
        seen.setdefault(tuple(key), {}).setdefault(lr, []).append(outcome)
    return {key: _best(by_lr) for key, by_lr in seen.items()}


def _best(by_lr: dict[float, list[tuple[float, float]]]) -> Choice:
    means = {lr: tuple(statistics.fmean(part) for part in zip(*runs, strict=True)) for lr, runs in by_lr.items()}
    best = max(sorted(means), key=lambda lr: (means[lr][0], -means[lr][1]))
    edge = "smallest" if best == min(means) else "largest" if best == max(means) else ""
    return Choice(best, edge)
