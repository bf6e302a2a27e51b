"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.effects import mean_row
from mlptheory.probes.transfer.cells import Cells
from mlptheory.probes.transfer.design import ARMS

if TYPE_CHECKING:
    from mlptheory.probes.transfer.design import Transfer

COLUMNS = ("arm", "stage", "length", "quantity", "mean", "low", "high", "n", "runs")
STAGES = {
    "pretraining": ("test_accuracy", "test accuracy on the source at batch size {} (%)"),
    "probing": ("test_accuracy", "test accuracy on the target at batch size {} (%)"),
    "finetuning": ("test_accuracy", "test accuracy on the target at batch size {} (%)"),
    "finetuning, TTA": ("tta_accuracy", "test accuracy on the target at batch size {} (%)"),
}


def effects(probe: Transfer, table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds and changes over the batch size, a row each.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    return pd.DataFrame([*_of_cells(probe, cells), *_beside(probe, cells)], columns=list(COLUMNS))


def _of_cells(probe: Transfer, cells: Cells) -> Iterator[dict[str, Any]]:
    for arm in ARMS:
        for stage, (outcome, quantity) in STAGES.items():
            for length in probe.lengths:
                values = cells.grid(stage.split(",")[0], arm, length, outcome)
                for size, column in zip(probe.sizes, values.T, strict=True):
                    yield _row(arm, stage, length, quantity.format(size), column)
                change = cells.change(values)
                yield _row(arm, stage, length, "change, smallest to largest batch (points)", change)


def _beside(probe: Transfer, cells: Cells) -> Iterator[dict[str, Any]]:
    accuracy = "test accuracy on the target{} (%)"
    for stage in ("scratch", "scratch-as-finetuning"):
        yield _row("", stage, 0, accuracy.format(""), cells.column("run", stage))
    yield _row("", "probing", 0, accuracy.format(", untrained body"), cells.beside("untrained", "probing"))
    yield _row(
        "plain",
        "probing",
        max(probe.lengths),
        accuracy.format(", body of shuffled source labels"),
        cells.beside("shuffled-source", "probing"),
    )


def _row(arm: str, stage: str, length: int, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"arm": arm, "stage": stage, "length": length, "quantity": quantity, **mean_row(values)}
