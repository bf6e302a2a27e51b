"""A table's outcomes as arrays: blocks by batch sizes, for one arm, policy and length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.batchsize.design import BatchSize

FACTORS = ("role", "arm", "policy", "length", "block", "batch_size")


class Cells:
    """The outcomes of a table, found by role, arm, policy and length.

    Parameters
    ----------
    probe : BatchSize
    table : DataFrame
        With the columns that `BatchSize.columns` documents; a column that is absent counts as missing everywhere.
    """

    def __init__(self, probe: BatchSize, table: pd.DataFrame) -> None:
        self.probe = probe
        self._columns = {name: table[name].to_numpy(dtype=float) for name in table.columns if name in _NUMBERS}
        for name in {"steps_to_target", "examples_to_target"} & set(self._columns):
            # A run that starts at its target tells nothing of what training takes, and 0 has no logarithm.
            self._columns[name] = np.where(self._columns[name] > 0, self._columns[name], np.nan)
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._places: dict[tuple[str, str, str, int], dict[tuple[int, int], int]] = {}
        keys = zip(*(table[name].tolist() for name in FACTORS), strict=True)
        for place, (role, arm, policy, length, block, size) in enumerate(keys):
            self._places.setdefault((role, arm, policy, int(length)), {})[int(block), int(size)] = place

    def of(self, outcome: str, role: str, arm: str, policy: str, length: int) -> np.ndarray:
        """Return an outcome, shape (blocks, batch sizes, smallest first); NaN where a run has none."""
        return self.grid(outcome, role, arm, policy, length, self.probe.seed_list, self.probe.sizes)

    def grid(
        self,
        outcome: str,
        role: str,
        arm: str,
        policy: str,
        length: int,
        blocks: tuple[int, ...],
        sizes: tuple[int, ...],
    ) -> np.ndarray:
        """Return an outcome for given blocks and batch sizes."""
        places, values = self._places.get((role, arm, policy, length), {}), self._columns.get(outcome)
        found = np.full((len(blocks), len(sizes)), np.nan)
        if values is None:
            return found
        for row, block in enumerate(blocks):
            for column, size in enumerate(sizes):
                place = places.get((block, size))
                if place is not None:
                    found[row, column] = values[place]
        return found

    def accuracy(self, arm: str, policy: str, length: int, role: str = "run") -> np.ndarray:
        """Return test accuracy in percent, blocks by batch sizes."""
        return 100 * self.of("test_accuracy", role, arm, policy, length)

    def change(self, values: np.ndarray) -> np.ndarray:
        """Return each block's fitted change over log2 batch size, NaN for a block that misses a run."""
        return values @ linear_trend_coefficients(np.log2(self.probe.sizes))

    def changes(self, arm: str, policy: str) -> np.ndarray:
        """Return each block's change in accuracy at each length, shape (lengths as given, blocks)."""
        return np.array([self.change(self.accuracy(arm, policy, length)) for length in self.probe.lengths])

    def diverged(self, role: str, arm: str, policy: str) -> tuple[int, int, list[int]]:
        """Return how many runs diverged, of how many, and at which batch sizes."""
        found = [
            (size, place)
            for (kind, of_arm, at, _), places in self._places.items()
            if (kind, of_arm, at) == (role, arm, policy)
            for (_, size), place in places.items()
        ]
        bad = [size for size, place in found if self._diverged[place]]
        return len(bad), len(found), sorted(set(bad))


_NUMBERS = (
    "test_accuracy",
    "sharpness_at_target",
    "norm_weighted_sharpness_at_target",
    "hessian_top_eigenvalue",
    "noise_scale",
    "steps_to_target",
    "examples_to_target",
    "chance_accuracy",
    "excess_loss",
    "lr",
)
