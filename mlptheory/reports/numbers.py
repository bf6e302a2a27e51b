"""How numbers are written: digits from the interval's width, a true minus sign, a dash for what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MISSING = "–"
_MINUS = "−"


def is_number(value: Any) -> bool:
    """Return whether a value is a finite real number (a bool is not).

    Examples
    --------
    >>> is_number(1.5), is_number(float("nan")), is_number(True), is_number(None)
    (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals_for(spread: float) -> int:
    """Return the decimals that show two significant digits of a spread, between 0 and 12.

    Examples
    --------
    >>> decimals_for(0.62), decimals_for(37.0), decimals_for(0.0)
    (2, 0, 3)
    """
    if not is_number(spread) or spread <= 0:
        return 3
    return min(12, max(0, 1 - math.floor(math.log10(spread))))


def signed(value: Any, decimals: int) -> str:
    """Write a number with its sign; zero has none.

    Examples
    --------
    >>> signed(1.254, 2), signed(-0.5, 1), signed(-0.001, 2), signed(None, 2)
    ('+1.25', '−0.5', '0.00', '–')
    """
    if not is_number(value):
        return MISSING
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def effect_text(effect: Any, low: Any, high: Any) -> tuple[str, str]:
    """Write an effect and its interval with the digits that the interval's half-width deserves.

    Examples
    --------
    >>> effect_text(1.2543, 0.634, 1.871)
    ('+1.25', '[+0.63, +1.87]')
    >>> effect_text(1.2543, None, None)
    ('+1.254', '[–, –]')
    """
    known = is_number(low) and is_number(high)
    decimals = decimals_for((high - low) / 2) if known else 3
    return signed(effect, decimals), f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def p_text(p: Any) -> str:
    """Write a p-value: three decimals, and never zero.

    Examples
    --------
    >>> p_text(0.0312), p_text(2e-7), p_text(None)
    ('0.031', '< 0.001', '–')
    """
    if not is_number(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cell_text(value: Any) -> str:
    """Write one cell of a table: four significant digits for floats, integers whole.

    Examples
    --------
    >>> cell_text(0.123456), cell_text(4096), cell_text(None), cell_text(True), cell_text(5e-05), cell_text(1234.56)
    ('0.1235', '4096', '–', 'yes', '5e-05', '1235')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
        return text.replace("-", _MINUS, 1) if value < 0 else text
    if isinstance(value, int):
        return str(value).replace("-", _MINUS)
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(item) for item in value)
    return str(value)


def column_texts(values: Sequence[Any]) -> list[str]:
    """Write the cells of one column; floats share their decimals, so that they can be compared down the column.

    Examples
    --------
    >>> column_texts([3.9, 3.42, None]), column_texts([5e-05, 0.1]), column_texts([64, 4096])
    (['3.90', '3.42', '–'], ['5e-05', '0.1'], ['64', '4096'])
    """
    texts = [cell_text(value) for value in values]
    floats = [text for text, value in zip(texts, values, strict=True) if isinstance(value, float) and is_number(value)]
    if any("e" in text for text in floats):
        return texts
    decimals = max((len(text.partition(".")[2]) for text in floats), default=0)
    return [
        f"{value:.{decimals}f}".replace("-", _MINUS) if isinstance(value, float) and is_number(value) else text
        for text, value in zip(texts, values, strict=True)
    ]


def mean_and_deviation_text(mean: float, deviation: float | None) -> str:
    """Write mean ± standard deviation with two significant digits of the deviation.

    Examples
    --------
    >>> mean_and_deviation_text(50.8571, 0.3349), mean_and_deviation_text(2.0, None)
    ('50.86 ± 0.33', '2')
    """
    if deviation is None:
        return cell_text(mean)
    decimals = decimals_for(deviation)
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}".replace("-", _MINUS)
