"""A table's outcomes as arrays over blocks, in the statistic's unit, greater for what is more local."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import runs_diverged
from mlptheory.probes.locality.columns import REFERENCES, SETS, STATISTICS
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.locality.design import Locality

Place = tuple[str, str, str, int, str]
"""Role, arm, dataset, training examples, optimizer."""
RAW = {f"{name}_{statistic}" for name in SETS for statistic in STATISTICS}
RAW |= {f"{name}_{reference}" for name in RAW for reference in REFERENCES}


class Cells:
    """The outcomes of a table, found by role, arm, dataset, size, optimizer and block.

    Parameters
    ----------
    probe : Locality
    table : DataFrame
        With the columns that `Locality.columns` documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Locality, table: pd.DataFrame) -> None:
        self.probe = probe
        self._values = {
            name: table[name].to_numpy(dtype=float) for name in (*sorted(RAW), "test_accuracy") if name in table
        }
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._places: dict[tuple[Place, int], int] = {}
        factors = ("role", "arm", "dataset", "n", "optimizer", "block")
        keys = zip(*(table[name].tolist() for name in factors), strict=True)
        for row, (role, arm, dataset, n, optimizer, block) in enumerate(keys):
            self._places[(role, arm or "", dataset, int(n), optimizer), int(block)] = row

    def raw(self, place: Place, outcome: str) -> np.ndarray:
        """Return an outcome as the table has it, by block; NaN where it is missing."""
        values, found = self._values.get(outcome), np.full(len(self.probe.seed_list), np.nan)
        if values is None:
            return found
        for index, block in enumerate(self.probe.seed_list):
            row = self._places.get((place, block))
            if row is not None:
                found[index] = values[row]
        return found

    def local(self, place: Place, of: str, reference: str = "") -> np.ndarray:
        """Return the design's statistic of "change", "weights" or "initial", or of a reference of it, by block."""
        statistic = self.probe.statistic
        values = self.raw(place, "_".join(filter(None, (of, statistic, reference))))
        if statistic == "local_share":
            return 100 * values
        relative = 100 * values / self.raw(place, f"initial_{statistic}")
        return -relative if statistic == "spread" else relative

    def center(self, arm: str) -> Place:
        """Return where the center of an arm is."""
        return "center", arm, self.probe.dataset, self.probe.largest, self.probe.optimizer

    def sizes(self, arm: str) -> tuple[Place, ...]:
        """Return an arm's places over the training-set size, smallest first; the last is the center."""
        smaller = [("size", arm, self.probe.dataset, n, self.probe.optimizer) for n in self.probe.sizes_sorted[:-1]]
        return (*smaller, self.center(arm))

    def over_sizes(self, arm: str) -> np.ndarray:
        """Return what the claims are about over the training-set size, shape (blocks, sizes)."""
        return np.stack([self.local(place, self.probe.of) for place in self.sizes(arm)], axis=1)

    def control(self, dataset: str) -> Place:
        """Return where the control's nets of a dataset are."""
        return "control", "", dataset, 0, "sgd"

    def change(self, values: np.ndarray) -> np.ndarray:
        """Return the fitted change over log2 training-set size along the last axis."""
        return values @ linear_trend_coefficients(np.log2(self.probe.sizes_sorted))

    def diverged(self, places: Iterable[Place]) -> str | None:
        """Say that runs at some places diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(places)
        rows = [row for (place, _), row in self._places.items() if place in wanted]
        return runs_diverged(self._diverged[rows])
