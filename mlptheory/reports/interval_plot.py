"""One effect with its interval against the margin, as a small SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from mlptheory.reports.numbers import effect_text, is_number

WIDTH = 320
_HEIGHT = 62
_PAD = 34
_AXIS = 42
_LABEL_GAP = 20


def interval_svg(verdict: Mapping[str, Any]) -> Markup | None:
    """Draw effect and interval on an axis with 0 and ±δ, the claimed region shaded; None without an interval.

    Colors and line widths belong to the page's style sheet.

    Examples
    --------
    >>> verdict = {"effect": 1.0, "low": 0.5, "high": 1.5, "margin": 0.2, "direction": "greater", "unit": "points"}
    >>> str(interval_svg(verdict))[:4], interval_svg(verdict | {"low": None})
    ('<svg', None)
    """
    effect, low, high = (verdict.get(name) for name in ("effect", "low", "high"))
    if not (is_number(effect) and is_number(low) and is_number(high)):
        return None
    margin = verdict["margin"] if is_number(verdict.get("margin")) else 0.0
    at = _scale(min(low, effect, -margin, 0.0), max(high, effect, margin, 0.0))
    parts = [*_claimed_region(verdict.get("direction"), margin, at)]
    parts.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{_AXIS}" y2="{_AXIS}"/>')
    parts.append(_tick(at(0.0), "0", "zero"))
    for value, sign in ((margin, "+"), (-margin, "−")):
        if margin > 0:
            far_enough = abs(at(value) - at(0.0)) >= _LABEL_GAP
            parts.append(_tick(at(value), f"{sign}δ" if far_enough else "", "margin"))
    y = _AXIS - 17
    parts.append(f'<line class="interval" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y}" y2="{y}"/>')
    parts += [
        f'<line class="interval" x1="{at(end):.1f}" x2="{at(end):.1f}" y1="{y - 5}" y2="{y + 5}"/>'
        for end in (low, high)
    ]
    parts.append(f'<circle class="effect" cx="{at(effect):.1f}" cy="{y}" r="4.5"/>')
    label = Markup(' role="img" aria-label="Effect {} with interval {} {}; margin ±{}"').format(
        *effect_text(effect, low, high), verdict.get("unit", ""), f"{margin:g}"
    )
    return Markup(f'<svg class="interval-plot" viewBox="0 0 {WIDTH} {_HEIGHT}"{label}>{"".join(parts)}</svg>')


def _scale(smallest: float, largest: float) -> Callable[[float], float]:
    span = (largest - smallest) or 1.0
    middle = (largest + smallest) / 2

    def at(value: float) -> float:
        return WIDTH / 2 + (value - middle) / span * (WIDTH - 2 * _PAD)

    return at


def _claimed_region(direction: object, margin: float, at: Callable[[float], float]) -> list[str]:
    edges = {
        "greater": (at(margin), float(WIDTH)),
        "less": (0.0, at(-margin)),
        "equivalent": (at(-margin), at(margin)),
    }.get(str(direction))
    if edges is None:
        return []
    start, end = edges
    return [f'<rect class="claimed" x="{start:.1f}" y="4" width="{end - start:.1f}" height="{_AXIS - 4}"/>']


def _tick(x: float, label: str, kind: str) -> str:
    text = f'<text x="{x:.1f}" y="{_AXIS + 17}" text-anchor="middle">{label}</text>' if label else ""
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_AXIS + 4}"/>{text}'
