"""The table of verdicts for a terminal."""

from __future__ import annotations

import re
import sys
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from mlptheory.base import invalid
from mlptheory.reports.numbers import effect_text, is_number, p_text

MARKS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?"}

_ASCII = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "─": "-",
        "−": "-",
        "–": "-",
        "—": "-",
        "·": ";",
        "±": "+/-",
        "δ": "delta",
        "×": "x",
        "≥": ">=",
        "≤": "<=",
        "…": "...",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "²": "^2",
        "η": "eta",
        "\u00a0": " ",
        "\u2009": " ",
    }
)
_NARROWEST = 60
_INDENT = "  "


def verdict_table(
    verdicts: Sequence[Mapping[str, Any]],
    width: int = 80,
    *,
    encoding: str | None = None,
) -> str:
    """Return the verdicts as a table that fits a terminal, each with its source, scope and reason below it.

    Parameters
    ----------
    verdicts : sequence of mappings
        As in a payload's "verdicts".
    width : int
        Columns of the terminal, at least 60; no line is longer.
    encoding : str, optional
        What the output can encode; that of standard output where it is not given. Where it lacks the signs of the
        table, plain ASCII stands in for them.

    Returns
    -------
    str
        Lines, without a final newline.

    Raises
    ------
    InputError
        If `width` is below 60.

    Examples
    --------
    >>> verdict = {
    ...     "claim": "Larger batches are better.", "source": "Bachmann et al. 2023, Fig. 4", "scope": "digits",
    ...     "effect": 1.25, "low": 0.63, "high": 1.87, "n": 5, "p": 0.004, "verdict": "supported", "level": 0.95,
    ...     "reason": "The interval lies above +0.5.", "unit": "percentage points", "margin": 0.5,
    ... }
    >>> print(verdict_table([verdict], width=72, encoding="ascii"))
    Claim                                     Verdict             n        p
    ------------------------------------------------------------------------
    Larger batches are better.                + supported         5    0.004
      Effect  +1.25, 95 % interval [+0.63, +1.87] percentage points,
              delta = 0.5
      Why     The interval lies above +0.5.
      Source  Bachmann et al. 2023, Fig. 4
      Scope   digits
    """
    if width < _NARROWEST:
        raise invalid("width", width, f"at least {_NARROWEST} columns")
    if not verdicts:
        return "No claims were judged."
    layout = _Layout(width)
    lines = [layout.row("Claim", "Verdict", "n", "p"), "─" * width]
    for place, verdict in enumerate(verdicts):
        lines += ([""] if place else []) + _block(verdict, layout)
    return _encodable("\n".join(lines), encoding or getattr(sys.stdout, "encoding", None) or "ascii")


class _Layout:
    """Widths of the columns: what the verdict, n and p need, the rest for the claim."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.claim = width - len("  ? inconclusive") - len("      n") - len("        p")

    def row(self, claim: str, verdict: str, n: str, p: str) -> str:
        return f"{claim:<{self.claim}}  {verdict:<14}{n:>7}{p:>9}".rstrip()


def _block(verdict: Mapping[str, Any], layout: _Layout) -> list[str]:
    name = _plain(verdict["verdict"])
    claim = textwrap.wrap(_plain(verdict["claim"]), layout.claim) or [""]
    first = layout.row(claim[0], f"{MARKS.get(name, ' ')} {name}", str(verdict["n"]), p_text(verdict.get("p")))
    facts = {
        "Effect": _effect(verdict),
        "Why": verdict.get("reason"),
        "Source": verdict.get("source"),
        "Scope": verdict.get("scope"),
    }
    lines = [first, *claim[1:]]
    for label, text in facts.items():
        if text:
            lead = f"{_INDENT}{label:<8}"
            lines += textwrap.wrap(_plain(text), layout.width, initial_indent=lead, subsequent_indent=" " * len(lead))
    return lines


def _effect(verdict: Mapping[str, Any]) -> str:
    unit, margin = verdict.get("unit", ""), verdict.get("margin")
    delta = f", δ\u00a0=\u00a0{margin:g}" if is_number(margin) else ""
    if not is_number(verdict.get("low")) or not is_number(verdict.get("high")):
        if not is_number(verdict.get("effect")):
            return f"none to report{delta}"
        return f"{effect_text(verdict['effect'], None, None)[0]} {unit}, no interval{delta}"
    effect, interval = effect_text(verdict["effect"], verdict["low"], verdict["high"])
    level = verdict.get("level") or 0.95
    return f"{effect}, {100 * level:.4g} % interval {interval} {unit}{delta}"


def _plain(text: object) -> str:
    """Return text on one line without control characters, which could rewrite the reader's terminal."""
    one_line = "".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in str(text))
    return re.sub(" +", " ", one_line).strip()


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return text
