"""The per-arm table: runs grouped by what was varied."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from mlptheory.reports.numbers import is_number

_ROLES = ("factor", "outcome")


def arm_table(table: Mapping[str, Any]) -> dict[str, Any] | None:
    """Group runs by the columns of role "factor" and describe the columns of role "outcome".

    The mean and the standard deviation (with n − 1) are over the runs of an arm that have a finite value; n counts
    these. They describe, the verdicts decide.

    Parameters
    ----------
    table : mapping
        "columns" (mappings with "name", "unit", "description" and optionally "role") and "rows".

    Returns
    -------
    dict or None
        A table of the same form, one row an arm in order of appearance; None if no column has a role.

    Examples
    --------
    >>> columns = [{"name": "batch_size", "role": "factor"}, {"name": "error", "role": "outcome", "unit": "%"}]
    >>> arm_table({"columns": columns, "rows": [[64, 1.0], [64, 3.0], [256, 5.0]]})["rows"]
    [[64, 2, 2.0, 1.414...], [256, 1, 5.0, None]]
    """
    places = {role: [i for i, column in enumerate(table["columns"]) if column.get("role") == role] for role in _ROLES}
    if not all(places.values()):
        return None
    arms: dict[tuple[Any, ...], list[Any]] = {}
    for row in table["rows"]:
        arms.setdefault(tuple(_hashable(row[i]) for i in places["factor"]), []).append(row)
    columns = [dict(table["columns"][i]) for i in places["factor"]]
    for i in places["outcome"]:
        outcome = table["columns"][i]
        columns += [
            {"name": "n" if i == places["outcome"][0] else f"n ({outcome['name']})", "description": "finite runs"},
            {**outcome, "name": outcome["name"], "statistic": "mean"},
            {**outcome, "name": outcome["name"], "statistic": "sd"},
        ]
    return {"columns": columns, "rows": [[*arm, *_described(runs, places["outcome"])] for arm, runs in arms.items()]}


def _described(runs: list[Any], outcomes: list[int]) -> list[Any]:
    cells: list[Any] = []
    for i in outcomes:
        values = [run[i] for run in runs if is_number(run[i])]
        cells += [
            len(values),
            statistics.fmean(values) if values else None,
            statistics.stdev(values) if len(values) > 1 else None,
        ]
    return cells


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
