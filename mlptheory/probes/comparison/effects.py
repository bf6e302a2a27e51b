"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mlptheory.probes.comparison.cells import Cells
from mlptheory.probes.comparison.claims import in_words
from mlptheory.probes.comparison.columns import NOT_OUTCOMES
from mlptheory.probes.effects import mean_row

if TYPE_CHECKING:
    from mlptheory.probes.comparison.design import Comparison

COLUMNS = ("arm", "quantity", "mean", "low", "high", "n", "runs")


def effects(probe: Comparison, table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every column by arm, in the table's unit, and of every contrast, in its own.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    names = [column.name for column in probe.columns() if column.name not in NOT_OUTCOMES]
    rows = [
        {"arm": arm, "quantity": name.replace("_", " "), **mean_row(cells.outcome(arm, name))}
        for arm in probe.arms()
        for name in names
    ]
    for contrast in probe.contrasts():
        quantity = f"{contrast.id}: {in_words(contrast)} ({contrast.unit})"
        rows.append({"arm": "", "quantity": quantity, **mean_row(cells.contrast(contrast))})
    return pd.DataFrame(rows, columns=list(COLUMNS))
