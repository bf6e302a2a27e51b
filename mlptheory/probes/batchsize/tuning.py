"""The learning rate of each batch size, chosen on the validation set with seeds of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlptheory.probes.tuning import Choice, choose_by

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize

Cell = tuple[str, int, int]
"""An arm, a length and a batch size."""


def choose(probe: BatchSize, table: pd.DataFrame) -> dict[Cell, Choice]:
    """Return the choice of every cell, from the tuning rows of a table and nothing else."""
    return choose_by(table, ("arm", "length", "batch_size"))


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
