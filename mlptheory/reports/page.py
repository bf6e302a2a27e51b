"""The report: one HTML file that needs nothing else, and a fragment of it for notebooks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mlptheory.base import InputError, invalid
from mlptheory.reports.arms import arm_table
from mlptheory.reports.interval_plot import interval_svg
from mlptheory.reports.numbers import cell_text, column_texts, effect_text, is_number, p_text
from mlptheory.reports.terminal import MARKS

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = "mlptheory.reports"
_SHOWN_ELSEWHERE = {"probe", "title", "question", "claims", "held_fixed", "digest"}
_UNITS = {"s": "s", "gib": "GiB", "mib": "MiB", "percent": "%", "flops": "FLOPs", "macs": "MACs"}


def render_html(payload: Mapping[str, Any], figures: Mapping[str, Markup], bibtex: str, title: str = "") -> str:
    """Return the report of a result as one HTML page: no script, no outside request, light and dark, print.

    Parameters
    ----------
    payload : mapping
        What ``result.json`` holds: "design", "table" and "verdicts" are needed; "effects", "diverged",
        "environment" and "timing" are shown where they are there. Columns of the table with a "role" of "factor"
        or "outcome" make the per-arm table.
    figures : mapping
        Captions to what :func:`figure_svg` returned.
    bibtex : str
        How to cite, as :func:`bibtex` returns it.
    title : str
        The page's title; the design's where it is empty.

    Returns
    -------
    str
        All text from the payload is escaped.

    Raises
    ------
    InputError
        If the payload lacks a part, or a figure is not from :func:`figure_svg`.

    Examples
    --------
    >>> payload = {
    ...     "design": {"title": "Batch size", "question": "Are larger batches better?"},
    ...     "table": {"columns": [{"name": "accuracy", "unit": "percent"}], "rows": [[91.5], [92.0]]},
    ...     "verdicts": [],
    ... }
    >>> html = render_html(payload, figures={}, bibtex="")
    >>> "<h1>Batch size</h1>" in html, "All 2 runs" in html
    (True, True)
    """
    _check(payload, ("design", "table", "verdicts"))
    for caption, svg in figures.items():
        if not isinstance(svg, Markup):
            raise invalid(f"figures[{caption!r}]", type(svg).__name__, "what figure_svg returned; other SVG is unsafe")
    design = payload["design"]
    table = payload["table"]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=title or design.get("title") or design.get("probe") or "Result",
            design=design,
            cards=[_card(verdict, design.get("claims", ())) for verdict in payload["verdicts"]],
            counts=_counts(payload["verdicts"]),
            controls=[verdict["verdict"] == "supported" for verdict in payload["verdicts"] if _is_control(verdict)],
            figures=[(caption, svg, _width_pt(svg)) for caption, svg in figures.items()],
            arms=_shown(arm_table(table)),
            effects=_shown(payload.get("effects")),
            table=_shown(table),
            runs=len(table["rows"]),
            diverged=payload.get("diverged") or [],
            settings=_settings(design),
            environment=dict(_flat(payload.get("environment") or {})),
            timing=dict(_flat(payload.get("timing") or {})),
            bibtex=bibtex,
            style=_style(),
        )
    )


def verdict_html(payload: Mapping[str, Any]) -> str:
    """Return the verdicts as an HTML fragment for a notebook, in the notebook's own colors.

    Parameters
    ----------
    payload : mapping
        As for :func:`render_html`; only "verdicts" is needed.

    Returns
    -------
    str
        One ``<div>`` with its style; all text from the payload is escaped.

    Raises
    ------
    InputError
        If the payload has no verdicts.

    Examples
    --------
    >>> verdict = {"claim": "a < b", "effect": 1.0, "low": 0.5, "high": 1.5, "n": 5, "p": 0.01, "margin": 0.1,
    ...            "verdict": "supported", "reason": "", "unit": "points", "source": "", "scope": ""}
    >>> "a &lt; b" in verdict_html({"verdicts": [verdict]})
    True
    """
    _check(payload, ("verdicts",))
    claims = payload.get("design", {}).get("claims", ())
    cards = [_card(verdict, claims) for verdict in payload["verdicts"]]
    return _environment().get_template("verdicts.html.jinja").render(cards=cards)


def _check(payload: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    for name in needed:
        if name not in payload:
            raise InputError(f"payload: expected the parts {', '.join(needed)}; {name!r} is missing")


def _card(verdict: Mapping[str, Any], claims: Any) -> dict[str, Any]:
    """Join a verdict with its claim and write its numbers."""
    claim = next((c for c in claims if verdict.get("id") and c.get("id") == verdict["id"]), {})
    effect, interval = effect_text(verdict.get("effect"), verdict.get("low"), verdict.get("high"))
    has_interval = is_number(verdict.get("low")) and is_number(verdict.get("high"))
    return {
        "claim": verdict["claim"],
        "verdict": verdict["verdict"],
        "kind": verdict["verdict"] if verdict["verdict"] in MARKS else "inconclusive",
        "mark": MARKS.get(verdict["verdict"], ""),
        "effect": effect if is_number(verdict.get("effect")) else None,
        "interval": interval if has_interval else None,
        "level": f"{100 * (verdict.get('level') or 0.95):.4g} %",
        "plot": interval_svg(verdict),
        "unit": verdict.get("unit", ""),
        "margin": f"{verdict['margin']:g}" if is_number(verdict.get("margin")) else None,
        "claimed": _claimed(verdict),
        "n": verdict["n"],
        "p": p_text(verdict["p"]) if is_number(verdict.get("p")) else None,
        "reason": verdict.get("reason", ""),
        "source": verdict.get("source", ""),
        "scope": verdict.get("scope", ""),
        "estimand": claim.get("estimand"),
        "test": claim.get("test"),
    }


def _claimed(verdict: Mapping[str, Any]) -> str | None:
    if not is_number(verdict.get("margin")):
        return None
    margin = f"{verdict['margin']:g}"
    above, below = ("+", "−") if verdict["margin"] else ("", "")
    return {
        "greater": f"effect > {above}{margin}",
        "less": f"effect < {below}{margin}",
        "equivalent": f"|effect| < {margin}",
    }.get(str(verdict.get("direction")))


def _is_control(verdict: Mapping[str, Any]) -> bool:
    return str(verdict["claim"]).startswith("Control")


def _counts(verdicts: Any) -> list[tuple[str, int]]:
    """Count the claims' verdicts; controls, whose truth is known, are counted by themselves."""
    kinds = [verdict["verdict"] for verdict in verdicts if not _is_control(verdict)]
    return [(kind, kinds.count(kind)) for kind in MARKS if kind in kinds]


def _shown(table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Write a table's cells and say which columns stand to the right; None for a table without rows."""
    if not table or not table["rows"]:
        return None
    written = [column_texts(values) for values in zip(*table["rows"], strict=True)]
    columns = [
        {
            "name": _label(str(column["name"])),
            "key": column["name"],
            "unit": column["unit"] if column.get("unit") and column["unit"] != column["name"] else "",
            "description": column.get("description") or "",
            "statistic": column.get("statistic", ""),
            "numeric": column.get("numeric") or all(value is None or is_number(value) for value in values),
        }
        for column, values in zip(table["columns"], zip(*table["rows"], strict=True), strict=True)
    ]
    return {"columns": columns, "rows": list(zip(*written, strict=True))}


def _width_pt(svg: str) -> float:
    found = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    return float(found.group(1)) if found else 234.0


def _settings(design: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Group what is left of the design: one group a nested part, the plain values first."""
    rest = {name: value for name, value in design.items() if name not in _SHOWN_ELSEWHERE}
    plain = {_label(name): value for name, value in rest.items() if not isinstance(value, Mapping)}
    groups = [("", plain)] if plain else []
    return groups + [
        (_label(name).capitalize(), dict(_flat(value))) for name, value in rest.items() if isinstance(value, Mapping)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        label = f"{prefix}{_label(str(name))}"
        pairs += _flat(value, f"{label} · ") if isinstance(value, Mapping) and value else [(label, value)]
    return pairs


def _label(name: str) -> str:
    """Write a field's name as words, with its unit in parentheses.

    Examples
    --------
    >>> _label("peak_memory_gib"), _label("held_fixed")
    ('peak memory (GiB)', 'held fixed')
    """
    *words, last = name.split("_")
    if words and last in _UNITS:
        return f"{' '.join(words)} ({_UNITS[last]})"
    return " ".join([*words, last])


def _value(value: Any) -> str:
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value == [] else cell_text(value)


@cache
def _style() -> Markup:
    return Markup(resources.files(_PACKAGE).joinpath("report.css").read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("mlptheory", "reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(value=_value, label=_label)
    return environment
