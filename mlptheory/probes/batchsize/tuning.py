"""The learning rate of each batch size, chosen on the validation set with seeds of its own."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize

Cell = tuple[str, int, int]
"""An arm, a length and a batch size."""


@dataclass(frozen=True)
class Choice:
    """What tuning chose for one model, length and batch size.

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


def choose(probe: BatchSize, table: pd.DataFrame) -> dict[Cell, Choice]:
    """Return the choice of every cell, from the tuning rows of a table and nothing else.

    Where every learning rate diverged, the smallest is taken, and is an edge.
    """
    seen: dict[Cell, dict[float, list[tuple[float, float]]]] = {}
    names = ("role", "arm", "length", "batch_size", "lr", "validation_accuracy", "validation_loss", "diverged")
    for role, arm, length, size, lr, accuracy, loss, diverged in zip(
        *(table[name].tolist() for name in names), strict=True
    ):
        if role != "tuning":
            continue
        outcome = (-math.inf, math.inf) if diverged or not math.isfinite(accuracy) else (accuracy, loss)
        seen.setdefault((arm, int(length), int(size)), {}).setdefault(lr, []).append(outcome)
    return {cell: _best(by_lr) for cell, by_lr in seen.items()}


def _best(by_lr: dict[float, list[tuple[float, float]]]) -> Choice:
    means = {lr: tuple(statistics.fmean(part) for part in zip(*runs, strict=True)) for lr, runs in by_lr.items()}
    best = max(sorted(means), key=lambda lr: (means[lr][0], -means[lr][1]))
    edge = "smallest" if best == min(means) else "largest" if best == max(means) else ""
    return Choice(best, edge)


def edges(probe: BatchSize, chosen: dict[Cell, Choice], arms: tuple[str, ...]) -> str | None:
    """Say which tuned optima of some arms lie on the edge of their grid; None if none does."""
    found = [
        f"{probe.models[arm]}, batch size {size}, length {length}: the {choice.edge}, {choice.lr:.3g}"
        for (arm, length, size), choice in chosen.items()
        if arm in arms and choice.edge
    ]
    if not found:
        return None
    more = f", and {len(found) - 2} more" if len(found) > 2 else ""
    return f"A tuned learning rate is the edge of its grid ({'; '.join(found[:2])}{more}): the best may lie beyond."
