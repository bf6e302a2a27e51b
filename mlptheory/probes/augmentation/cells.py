"""A table's outcomes as arrays over blocks, found by role, learner, arm and size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.evidence import runs_diverged

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.augmentation.design import Augmentation

_FACTORS = ("role", "learner", "arm", "size", "block")
Kind = tuple[str, str, str, int]
"""A role, a learner, an arm and a size."""


class Cells:
    """The outcomes of a table.

    Parameters
    ----------
    probe : Augmentation
    table : DataFrame
        With the columns that `Augmentation.columns` documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Augmentation, table: pd.DataFrame) -> None:
        self.probe, self._table = probe, table
        self._values: dict[str, np.ndarray] = {}
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._places: dict[tuple[Kind, int], list[int]] = {}
        keys = zip(*(table[name].tolist() for name in _FACTORS), strict=True)
        for place, (role, learner, arm, size, block) in enumerate(keys):
            self._places.setdefault(((role, learner, arm, int(size)), int(block)), []).append(place)

    def column(self, kind: Kind, outcome: str = "test_accuracy") -> np.ndarray:
        """Return an outcome by block, the mean over its replicates, shares as they are; NaN where one is missing."""
        if outcome not in self._values:
            absent = np.full(len(self._table), np.nan)
            given = self._table[outcome].to_numpy(dtype=float) if outcome in self._table else absent
            self._values[outcome] = given
        values, found = self._values[outcome], np.full(len(self.probe.seed_list), np.nan)
        for row, block in enumerate(self.probe.seed_list):
            places = self._places.get((kind, block))
            if places is not None:
                found[row] = values[places].mean() if len(places) > 1 else values[places[0]]
        return found

    def of(self, arm: str, outcome: str = "test_accuracy", *, learner: str = "mlp", size: int = 0) -> np.ndarray:
        """Return an outcome of an arm's runs by block, at the largest size if none is given."""
        return self.column(("run", learner, arm, size or self.probe.largest), outcome)

    def accuracy(self, arm: str, *, learner: str = "mlp", size: int = 0) -> np.ndarray:
        """Return the test accuracy of an arm's runs by block, in percent."""
        return 100 * self.of(arm, learner=learner, size=size)

    def lift(self, arm: str, *, learner: str = "mlp") -> np.ndarray:
        """Return an arm's accuracy less that without augmentation, at the largest size, by block, in points."""
        return self.accuracy(arm, learner=learner) - self.accuracy(NONE, learner=learner)

    def log_odds(self, arm: str, *, learner: str = "mlp") -> np.ndarray:
        """Return log(p/(1-p)) of an arm's accuracy at the largest size, kept half an example off 0 and 1."""
        share = self.of(arm, learner=learner)
        half = 0.5 / self.of(arm, "test_examples", learner=learner)
        kept = np.minimum(np.maximum(share, half), 1 - half)
        return np.log(kept / (1 - kept))

    def curve(self, arm: str, outcome: str = "test_accuracy", *, learner: str = "mlp") -> np.ndarray:
        """Return an outcome of an arm that was trained at every size, shape (blocks, sizes, smallest first)."""
        sizes = self.probe.ordered_sizes
        return np.stack([self.of(arm, outcome, learner=learner, size=size) for size in sizes], axis=1)

    def diverged(self, kinds: Iterable[Kind]) -> str | None:
        """Say that runs of some kinds diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(kinds)
        places = [place for (kind, _), found in self._places.items() if kind in wanted for place in found]
        return runs_diverged(self._diverged[places])
