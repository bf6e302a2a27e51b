"""Checks at the room's door: every bad number is refused by name before anything is computed from it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mlptheory.base import InputError, invalid


def vector(argument: str, values: ArrayLike, fewest: int = 1) -> np.ndarray:
    """Return finite numbers as a float64 vector, or raise the error that names the first bad one."""
    array = _numbers(argument, values)
    if array.ndim != 1:
        raise InputError(f"{argument} has shape {array.shape}: expected one dimension, one value per independent run")
    if len(array) < fewest:
        raise InputError(f"{argument} has length {len(array)}: expected at least {fewest}")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise invalid(f"{argument}[{bad[0]}]", float(array[bad[0]]), "a finite number")
    return array


def table(argument: str, values: ArrayLike, missing: bool) -> np.ndarray:
    """Return a (blocks, arms) float64 table; NaN marks a missing cell where `missing` allows it."""
    array = _numbers(argument, values)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 2:
        raise InputError(f"{argument} has shape {array.shape}: expected (blocks, arms), at least 2 of each")
    bad = np.argwhere(np.isinf(array) if missing else ~np.isfinite(array))
    if len(bad):
        block, arm = bad[0]
        allowed = "a finite number" + (", or NaN for a missing cell" if missing else "")
        raise invalid(f"{argument}[{block}, {arm}]", float(array[block, arm]), allowed)
    return array


def number(argument: str, value: float, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    """Return a finite number within its bounds as a float."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not real or not math.isfinite(value) or value <= above or value < at_least:
        bounds = [f" above {above:g}"] * (above > -math.inf) + [f" of at least {at_least:g}"] * (at_least > -math.inf)
        raise invalid(argument, value, "a finite number" + "".join(bounds))
    return float(value)


def probability(argument: str, value: float) -> float:
    """Return a number strictly between 0 and 1 as a float."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not real or not 0 < value < 1:
        raise invalid(argument, value, "a number strictly between 0 and 1")
    return float(value)


def count(argument: str, value: int, at_least: int) -> int:
    """Return a whole number of at least `at_least` as an int."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not whole or value < at_least:
        raise invalid(argument, value, f"an integer of at least {at_least}")
    return int(value)


def _numbers(argument: str, values: ArrayLike) -> np.ndarray:
    try:
        if isinstance(values, Sequence | np.ndarray) or hasattr(values, "__array__"):
            return np.array(values, dtype=np.float64)
        return np.array(list(values), dtype=np.float64)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        shown = " ".join(repr(values).split())
        raise InputError(f"{argument} = {shown[:80]}: expected an array of numbers") from error
