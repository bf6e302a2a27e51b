"""What observers share that look at a loss as it falls: the look before, and a value where the loss is at a target."""

from __future__ import annotations

import math

from mlptheory.training import TrainingState


def last_look(state: TrainingState, quantity: str) -> dict[str, float]:
    """Return what was seen at the last step at which a quantity was; nothing if it never was."""
    steps = [step for step, _, name, _ in state.history if name == quantity]
    return {name: value for step, _, name, value in state.history if steps and step == steps[-1]}


def between(before: float, after: float, share: float) -> float:
    """Return (1 - share) of what was before and share of what came after.

    Examples
    --------
    >>> between(1.0, 3.0, 0.5)
    2.0
    """
    return (1 - share) * before + share * after


def between_logs(before: float, after: float, share: float) -> float:
    """Return exp((1 - share) log before + share log after); NaN where a logarithm does not exist.

    Examples
    --------
    >>> between_logs(1.0, 16.0, 0.5)
    4.0
    """
    if not (before > 0 and after > 0):
        return math.nan
    return math.exp(between(math.log(before), math.log(after), share))
