"""The per-arm table: runs grouped by what was varied."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mlptheory.reports.numbers import MISSING, is_number, mean_and_deviation_text


def arm_table(table: Mapping[str, Any]) -> dict[str, Any] | None:
    """Group runs by the columns of role "factor" and describe the columns of role "outcome".

    Mean ± standard deviation (with n − 1) are over the n runs of an arm that have a finite value in every outcome, so
    diverged runs drop out. They describe; the verdicts decide.

    Parameters
    ----------
    table : mapping
        "columns" (mappings with "name" and optionally "unit", "description", "role") and "rows".

    Returns
    -------
    dict or None
        A table of the same form, one row an arm in order of appearance; None unless there are columns of both roles.

    Examples
    --------
    >>> columns = [{"name": "batch_size", "role": "factor"}, {"name": "error", "role": "outcome", "unit": "%"}]
    >>> arm_table({"columns": columns, "rows": [[64, 1.0], [64, 3.0], [256, 5.0]]})["rows"]
    [[64, 2, '2.0 ± 1.4'], [256, 1, '5']]
    """
    columns = table["columns"]
    factors, outcomes = (_places(columns, role) for role in ("factor", "outcome"))
    if not factors or not outcomes:
        return None
    arms: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for row in table["rows"]:
        arms.setdefault(tuple(_hashable(row[i]) for i in factors), []).append(row)
    runs = {"name": "n", "description": "runs with a finite value in every outcome"}
    described = [{**columns[i], "statistic": "mean ± sd", "numeric": True} for i in outcomes]
    return {
        "columns": [*(columns[i] for i in factors), runs, *described],
        "rows": [[*arm, *_described(rows, outcomes)] for arm, rows in arms.items()],
    }


def _places(columns: Sequence[Mapping[str, Any]], role: str) -> list[int]:
    return [i for i, column in enumerate(columns) if column.get("role") == role]


def _described(rows: list[Sequence[Any]], outcomes: list[int]) -> list[Any]:
    finite = [row for row in rows if all(is_number(row[i]) for i in outcomes)]
    cells: list[Any] = [len(finite)]
    for i in outcomes:
        values = [row[i] for row in finite]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        cells.append(mean_and_deviation_text(statistics.fmean(values), deviation) if values else MISSING)
    return cells


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
