"""Tables for READMEs, issues and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlptheory.base import InputError
from mlptheory.reports.numbers import cell_text


def markdown_table(rows: Sequence[Sequence[Any]], columns: Sequence[str | Mapping[str, Any]]) -> str:
    """Return rows as a GitHub-flavored Markdown table, numbers to the right.

    Parameters
    ----------
    rows : sequence of sequences
        One value a column.
    columns : sequence of str or mappings
        Names, or mappings with "name" and optionally "unit".

    Returns
    -------
    str
        Ends in a newline.

    Raises
    ------
    InputError
        If a row's length is not the number of columns.

    Examples
    --------
    >>> print(markdown_table([[64, 0.5], [4096, None]], ["batch size", {"name": "error", "unit": "%"}]), end="")
    | batch size | error (%) |
    | ---------: | --------: |
    |         64 |       0.5 |
    |       4096 |         – |
    """
    header = [_escaped(_heading(column)) for column in columns]
    for place, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"rows[{place}] has {len(row)} values: expected {len(header)}, one a column")
    right = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    body = [[_escaped(cell_text(value)) for value in row] for row in rows]
    widths = [max(3, *(len(line[i]) for line in [header, *body])) for i in range(len(header))]
    rule = ["-" * (width - 1) + ":" if is_right else "-" * width for width, is_right in zip(widths, right, strict=True)]
    lines = [
        "| " + " | ".join(_aligned(*item) for item in zip(line, widths, right, strict=True)) + " |"
        for line in [header, rule, *body]
    ]
    return "\n".join(lines) + "\n"


def _heading(column: str | Mapping[str, Any]) -> str:
    if isinstance(column, str):
        return column
    return f"{column['name']} ({column['unit']})" if column.get("unit") else str(column["name"])


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _aligned(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
