"""A table's outcomes by arm and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.comparison.design import Comparison, Contrast


class Cells:
    """The outcomes of a table, found by arm.

    Parameters
    ----------
    probe : Comparison
    table : DataFrame
        With the columns that the probe documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Comparison, table: pd.DataFrame) -> None:
        self.probe = probe
        self._table = table
        seeds = {seed: place for place, seed in enumerate(probe.seed_list)}
        self._rows = {arm: np.flatnonzero((table["arm"] == arm).to_numpy()) for arm in probe.arms()}
        self._places = table["seed"].map(seeds).to_numpy()

    def outcome(self, arm: str, name: str) -> np.ndarray:
        """Return a column's values of one arm by seed; NaN where one is missing."""
        return self._by_seed(arm, self._table[name].to_numpy(dtype=float)) if name in self._table else self._missing()

    def diverged(self, arms: list[str]) -> np.ndarray:
        """Return which runs of some arms diverged."""
        values = self._table["diverged"].to_numpy(dtype=bool)
        return np.concatenate([values[self._rows[arm]] for arm in arms])

    def contrast(self, contrast: Contrast) -> np.ndarray:
        """Return a contrast by seed, in its unit."""
        parts = [weight * self.outcome(arm, contrast.outcome) for arm, weight in contrast.weights.items()]
        return contrast.scale * np.sum(parts, axis=0)

    def _missing(self) -> np.ndarray:
        return np.full(len(self.probe.seed_list), np.nan)

    def _by_seed(self, arm: str, values: np.ndarray) -> np.ndarray:
        found, rows = self._missing(), self._rows[arm]
        found[self._places[rows].astype(int)] = values[rows]
        return found
