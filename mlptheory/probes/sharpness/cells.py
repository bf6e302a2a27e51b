"""A table's outcomes as arrays over blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import runs_diverged
from mlptheory.probes.sharpness.columns import RESCALINGS
from mlptheory.stats import kendall_tau, linear_trend_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.sharpness.design import Sharpness

Place = tuple[str, str, int, int, int]
"""Role, arm, width, depth, batch size."""
OUTCOMES = (
    "edge_hovering",
    "edge_highest",
    "edge_sharpness",
    "sharpening",
    "sharpening_sharpness",
    "sharpness_at_target",
    "adaptive_sharpness_at_target",
    "gap_at_target",
    "test_error_at_target",
    *(f"rescaling_{draw}" for draw in range(RESCALINGS)),
    "function_change",
    "adaptive_change",
    "test_accuracy",
)
RAW, ADAPTIVE, GAP, ERROR = (
    "sharpness_at_target",
    "adaptive_sharpness_at_target",
    "gap_at_target",
    "test_error_at_target",
)


class Cells:
    """The outcomes of a table, found by part, arm, net, batch size and block.

    Parameters
    ----------
    probe : Sharpness
    table : DataFrame
        With the columns that `Sharpness.columns` documents; an outcome that is absent counts as missing everywhere.
    """

    def __init__(self, probe: Sharpness, table: pd.DataFrame) -> None:
        self.probe = probe
        self._values = {name: table[name].to_numpy(dtype=float) for name in OUTCOMES if name in table}
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._rows: dict[tuple[Place, int], int] = {}
        factors = ("role", "arm", "width", "depth", "batch_size", "block")
        keys = zip(*(table[name].tolist() for name in factors), strict=True)
        for row, (role, arm, width, depth, batch_size, block) in enumerate(keys):
            self._rows[(role, arm or "", int(width), int(depth), int(batch_size)), int(block)] = row

    def raw(self, place: Place, outcome: str) -> np.ndarray:
        """Return an outcome as the table has it, by block; NaN where it is missing."""
        values, found = self._values.get(outcome), np.full(len(self.probe.seed_list), np.nan)
        if values is None:
            return found
        for index, block in enumerate(self.probe.seed_list):
            row = self._rows.get((place, block))
            if row is not None:
                found[index] = values[row]
        return found

    def edge(self, arm: str) -> Place:
        """Return where an arm of the edge part is."""
        return "edge", arm, self.probe.width, self.probe.depth, self.probe.n

    def flow(self, width: int, depth: int) -> Place:
        """Return where the flows of a net are."""
        return "flow", "", width, depth, self.probe.n

    def over_widths(self) -> tuple[Place, ...]:
        """Return the flows' places over the width, narrowest first."""
        return tuple(self.flow(width, self.probe.depth) for width in self.probe.widths_sorted)

    def over_depths(self) -> tuple[Place, ...]:
        """Return the flows' places over the depth, shallowest first."""
        return tuple(self.flow(self.probe.width, depth) for depth in self.probe.depths_sorted)

    def batches(self) -> tuple[Place, ...]:
        """Return the places of the batch part, smallest batches first."""
        return tuple(
            ("batch", "", self.probe.width, self.probe.depth, batch_size) for batch_size in self.probe.batches_sorted
        )

    def over(self, places: Iterable[Place], outcome: str) -> np.ndarray:
        """Return an outcome at several places, shape (blocks, places)."""
        return np.stack([self.raw(place, outcome) for place in places], axis=1)

    def over_batches(self, outcome: str) -> np.ndarray:
        """Return an outcome over the batch sizes, shape (blocks, sizes)."""
        return self.over(self.batches(), outcome)

    def tau(self, x: str, y: str) -> np.ndarray:
        """Return Kendall's τ between two outcomes over the batch sizes, by block."""
        return kendall_tau(self.over_batches(x), self.over_batches(y))

    def rescaled(self) -> np.ndarray:
        """Return log2 of sharpness after each rescaling, shape (draws, blocks, sizes)."""
        log2 = np.log2(self.over_batches(RAW))
        return np.stack([log2 + self.over_batches(f"rescaling_{draw}") for draw in range(RESCALINGS)])

    def rescaled_tau(self, y: str) -> np.ndarray:
        """Return Kendall's τ between rescaled sharpness and an outcome, mean over the draws, by block."""
        return kendall_tau(self.rescaled(), self.over_batches(y)).mean(axis=0)

    def diverged(self, places: Iterable[Place]) -> str | None:
        """Say that runs at some places diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(places)
        return runs_diverged(self._diverged[[row for (place, _), row in self._rows.items() if place in wanted]])


def change(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return the fitted change along the last axis from the smallest to the largest size, a line over log2 of it."""
    return values @ linear_trend_coefficients(np.log2(sizes))
