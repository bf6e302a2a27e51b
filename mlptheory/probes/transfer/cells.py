"""A table's outcomes as arrays: arms, lengths, blocks and batch sizes of pretraining."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import runs_diverged
from mlptheory.probes.transfer.design import ARMS
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.transfer.design import Transfer

_FACTORS = ("role", "stage", "arm", "length", "batch_size", "block")
_SHARES = ("test_accuracy", "tta_accuracy", "chance_accuracy")


class Cells:
    """The outcomes of a table in percent, found by role, stage, arm, length, batch size and block.

    Parameters
    ----------
    probe : Transfer
    table : DataFrame
        With the columns that `Transfer.columns` documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Transfer, table: pd.DataFrame) -> None:
        self.probe = probe
        self._shares = {name: 100 * table[name].to_numpy(dtype=float) for name in _SHARES if name in table}
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._everything: dict[tuple[str, str], np.ndarray] = {}
        self._places: dict[tuple[str, str, str, int, int, int], list[int]] = {}
        keys = zip(*(table[name].tolist() for name in _FACTORS), strict=True)
        for place, (role, stage, arm, length, size, block) in enumerate(keys):
            key = (role, stage, arm or "", int(length), int(size), int(block))
            self._places.setdefault(key, []).append(place)

    def column(
        self,
        role: str,
        stage: str,
        arm: str = "",
        length: int = 0,
        size: int = 0,
        outcome: str = "test_accuracy",
    ) -> np.ndarray:
        """Return an outcome by block, the mean over its replicates; NaN where one is missing."""
        values = self._shares.get(outcome)
        found = np.full(len(self.probe.seed_list), np.nan)
        if values is None:
            return found
        for row, block in enumerate(self.probe.seed_list):
            places = self._places.get((role, stage, arm, length, size, block))
            if places is not None:
                found[row] = values[places].mean() if len(places) > 1 else values[places[0]]
        return found

    def grid(self, stage: str, arm: str, length: int, outcome: str = "test_accuracy") -> np.ndarray:
        """Return an outcome of the design's runs, shape (blocks, batch sizes, smallest first)."""
        return np.stack([self.column("run", stage, arm, length, size, outcome) for size in self.probe.sizes], axis=1)

    def everything(self, stage: str, outcome: str = "test_accuracy") -> np.ndarray:
        """Return an outcome of all the design's runs, shape (arms, lengths as given, blocks, batch sizes)."""
        if (stage, outcome) not in self._everything:
            self._everything[stage, outcome] = np.array(
                [[self.grid(stage, arm, length, outcome) for length in self.probe.lengths] for arm in ARMS]
            )
        return self._everything[stage, outcome]

    def beside(self, role: str, stage: str) -> np.ndarray:
        """Return by block what is set beside the plain arm at the middle batch size and the longest length."""
        if role == "untrained":
            return self.column(role, stage)
        return self.column(role, stage, "plain", max(self.probe.lengths), self.probe.middle)

    def change(self, values: np.ndarray) -> np.ndarray:
        """Return the fitted change over log2 batch size along the last axis."""
        return values @ linear_trend_coefficients(np.log2(self.probe.sizes))

    def diverged(self, kinds: Iterable[tuple[str, str]]) -> str | None:
        """Say that runs of some roles and stages diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(kinds)
        places = [place for key, found in self._places.items() if key[:2] in wanted for place in found]
        return runs_diverged(self._diverged[places])
