"""A table's outcomes as arrays over blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import runs_diverged
from mlptheory.probes.ntk.arms import Cell, infinite_cells
from mlptheory.probes.ntk.arms import cells as cells_of
from mlptheory.probes.ntk.columns import COLUMNS, PARTS
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.ntk.design import NeuralTangentKernel

Place = tuple[str, str, int, int, str, float, float]
"""Role, parametrization, width, training examples, optimizer, learning rate, output scale."""
FACTORS = ("role", "parametrization", "width", "n", "optimizer", "lr", "output_scale")
OUTCOMES = tuple(column.name for column in COLUMNS if column.role == "outcome" or column.name.endswith("_chance"))


class Cells:
    """The outcomes of a table, found by what tells its cells apart, and block.

    Parameters
    ----------
    probe : NeuralTangentKernel
    table : DataFrame
        With the columns that `NeuralTangentKernel.columns` documents; an outcome that is absent counts as missing
        everywhere.
    """

    def __init__(self, probe: NeuralTangentKernel, table: pd.DataFrame) -> None:
        self.probe = probe
        self._values = {name: table[name].to_numpy(dtype=float) for name in OUTCOMES if name in table}
        self._diverged = table["diverged"].to_numpy(dtype=bool)
        self._rows: dict[tuple[Place, int], int] = {}
        keys = zip(*(table[name].tolist() for name in (*FACTORS, "block")), strict=True)
        for row, (role, parametrization, width, n, optimizer, lr, scale, block) in enumerate(keys):
            place = (role, parametrization, int(width), int(n), optimizer, float(lr), float(scale))
            self._rows[place, int(block)] = row
        self._of_role: dict[tuple[str, str], list[Place]] = {}
        for cell in (*cells_of(probe), *infinite_cells(probe)):
            self._of_role.setdefault((cell.role, cell.parametrization), []).append(place_of(cell))

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

    def logarithm(self, place: Place, outcome: str) -> np.ndarray:
        """Return the binary logarithm of an outcome by block; NaN where there is none."""
        values = self.raw(place, outcome)
        return np.log2(np.where(values > 0, values, np.nan))

    def places(self, role: str, parametrization: str = "standard") -> list[Place]:
        """Return the places of a role, in the order of the design."""
        return self._of_role[role, parametrization]

    @property
    def center(self) -> Place:
        """Where the center is."""
        return self.places("center")[0]

    def over_widths(self, role: str, parametrization: str, outcome: str) -> np.ndarray:
        """Return an outcome's binary logarithm over the widths, smallest first, shape (blocks, widths)."""
        places = self.places(role, parametrization)
        if role == "width":
            places = [*places, self.center]
        return np.stack([self.logarithm(place, outcome) for place in places], axis=1)

    def exponent(self, values: np.ndarray) -> np.ndarray:
        """Return by block the slope of logarithms over the logarithm of the width, along the last axis."""
        x = np.log2(self.probe.widths_sorted)
        return values @ linear_trend_coefficients(x) / np.ptp(x)

    def infinite(self, parametrization: str, outcome: str, n: int) -> float:
        """Return an outcome of infinite width, which no seed changes; NaN where it is missing."""
        for place in self.places("infinite", parametrization):
            if place[3] == n:
                values = self.raw(place, outcome)
                seen = values[~np.isnan(values)]
                return float(seen[0]) if len(seen) else float("nan")
        return float("nan")

    def curve(self, part: int) -> np.ndarray:
        """Return by block the binary logarithm of the predicted over the measured error on a part of the examples."""
        return self.logarithm(self.center, f"curve_predicted_{part}") - self.logarithm(
            self.center, f"curve_measured_{part}"
        )

    def curves(self) -> list[np.ndarray]:
        """Return `curve` for every part."""
        return [self.curve(part) for part in PARTS]

    def diverged(self, places: Iterable[Place]) -> str | None:
        """Say that runs at some places diverged; None if none did."""
        if not self._diverged.any():
            return None
        wanted = set(places)
        rows = [row for (place, _), row in self._rows.items() if place in wanted]
        return runs_diverged(self._diverged[rows])


def place_of(cell: Cell) -> Place:
    """Return where a cell is."""
    return cell.role, cell.parametrization, cell.width, cell.n, cell.optimizer, float(cell.lr), float(cell.output_scale)
