"""The learning rate of each arm and model, chosen at the largest size on the validation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlptheory.probes.tuning import Choice, choose_by

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.augmentation.design import Augmentation

Cell = tuple[str, str]
"""A learner and an arm."""
Rates = Mapping[Cell, float]


def choose(table: pd.DataFrame) -> dict[Cell, Choice]:
    """Return the choice of every learner and arm; none where nothing is tuned."""
    return choose_by(table, ("learner", "arm"))


def standing_in(probe: Augmentation) -> Rates:
    """Return a learning rate for every cell that no tuning run has, so that no stand-in is counted as one."""
    return {
        (learner, arm): 2 * probe.base_lr(learner) * max(probe.lr_grid)
        for learner in probe.models
        for arm in probe.arms_of(learner)
    }


def edges(probe: Augmentation, chosen: Mapping[Cell, Choice], cells: Sequence[Cell]) -> str | None:
    """Say which tuned optima of some cells lie on the edge of their grid; None if none does."""
    found = [
        f"{probe.models[cell[0]]}, {cell[1]}: the {chosen[cell].edge}, {chosen[cell].lr:.3g}"
        for cell in cells
        if cell in chosen and chosen[cell].edge
    ]
    if not found:
        return None
    more = f", and {len(found) - 2} more" if len(found) > 2 else ""
    return f"A tuned learning rate is the edge of its grid ({'; '.join(found[:2])}{more}): the best may lie beyond."
