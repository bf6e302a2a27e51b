"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.effects import mean_row
from mlptheory.probes.locality.arms import cells as cells_of
from mlptheory.probes.locality.cells import Cells, Place
from mlptheory.probes.locality.columns import REFERENCES, SETS, STATISTICS
from mlptheory.probes.locality.design import ARMS, CONTROL_DATASETS

if TYPE_CHECKING:
    from mlptheory.probes.locality.arms import Cell
    from mlptheory.probes.locality.design import Locality

COLUMNS = ("arm", "cell", "quantity", "mean", "low", "high", "n", "runs")
SHOWN = {
    "local_share": (100, "local share of {} (%)"),
    "ipr": (100, "inverse participation ratio of {} (%)"),
    "spread": (1, "spatial spread of {} (squared pixels)"),
}
NAMES = {"weights": "W", "change": "W − W₀", "initial": "W₀"}
OF_TRAINED = ("change", "weights")


def effects(probe: Locality, table: pd.DataFrame) -> pd.DataFrame:
    """Return every statistic at the center and in the control beside its references, and how the cells depart from it.

    In the statistics' own units, a spread greater for what is less local. Where an outcome is missing in some runs, the
    rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [*_departures(probe, cells), *_over_sizes(probe, cells), *_at_center(cells), *_control(probe, cells)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def place_of(probe: Locality, cell: Cell, arm: str) -> Place:
    """Return where a cell of an arm is."""
    return cell.role, arm, probe.dataset, cell.n, cell.optimizer


def text_of(cell: Cell) -> str:
    """Say what departs from the center."""
    return {
        "center": "center",
        "size": f"{cell.n} examples",
        "steps": f"{cell.n} examples, equal steps",
        "epochs": f"{cell.epochs} epochs",
        "decay": f"weight decay {cell.weight_decay:g}",
        "optimizer": f"{cell.optimizer} at {cell.lr:g}",
    }[cell.role]


def _departures(probe: Locality, cells: Cells) -> Iterator[dict[str, Any]]:
    for arm in ARMS:
        for cell in cells_of(probe):
            place, center = place_of(probe, cell, arm), cells.center(arm)
            accuracy = 100 * cells.raw(place, "test_accuracy")
            yield _row(arm, text_of(cell), "test accuracy (%)", accuracy)
            if cell.role == "center":
                continue
            for of in OF_TRAINED:
                for statistic, (scale, quantity) in SHOWN.items():
                    outcome = f"{of}_{statistic}"
                    less = scale * (cells.raw(place, outcome) - cells.raw(center, outcome))
                    yield _row(arm, text_of(cell), f"{quantity.format(NAMES[of])}, less the center's", less)


def _over_sizes(probe: Locality, cells: Cells) -> Iterator[dict[str, Any]]:
    for of in OF_TRAINED:
        for statistic, (scale, quantity) in SHOWN.items():
            by_arm = [
                cells.change(
                    np.stack([scale * cells.raw(place, f"{of}_{statistic}") for place in cells.sizes(arm)], axis=1)
                )
                for arm in ARMS
            ]
            text = f"change of the {quantity.format(NAMES[of])}, smallest to largest training set"
            for arm, change in zip(ARMS, by_arm, strict=True):
                yield _row(arm, "sizes", text, change)
            yield _row("", "sizes", f"{text}, augmented less plain", by_arm[0] - by_arm[1])


def _at_center(cells: Cells) -> Iterator[dict[str, Any]]:
    for arm in ARMS:
        yield from _everything(cells, cells.center(arm), arm, "center")


def _control(probe: Locality, cells: Cells) -> Iterator[dict[str, Any]]:
    if not probe.control:
        return
    for name in CONTROL_DATASETS:
        place = cells.control(name)
        yield _row("", name, "test accuracy (%)", 100 * cells.raw(place, "test_accuracy"))
        yield from _everything(cells, place, "", name)
    edges, gaussian = map(cells.control, CONTROL_DATASETS)
    for of in OF_TRAINED:
        for statistic, (scale, quantity) in SHOWN.items():
            lead = scale * (cells.raw(edges, f"{of}_{statistic}") - cells.raw(gaussian, f"{of}_{statistic}"))
            yield _row("", "control", f"{quantity.format(NAMES[of])}, edges less Gaussian", lead)


def _everything(cells: Cells, place: Place, arm: str, cell: str) -> Iterator[dict[str, Any]]:
    """Yield every statistic of every set of filters, then by how much it exceeds those of its references."""
    for of in SETS:
        for statistic in STATISTICS:
            scale, quantity = SHOWN[statistic]
            values = scale * cells.raw(place, f"{of}_{statistic}")
            yield _row(arm, cell, quantity.format(NAMES[of]), values)
            for reference in REFERENCES:
                if (statistic, reference) == ("ipr", "shuffled"):
                    continue
                beyond = values - scale * cells.raw(place, f"{of}_{statistic}_{reference}")
                yield _row(arm, cell, f"{quantity.format(NAMES[of])}, less {reference} references'", beyond)


def _row(arm: str, cell: str, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"arm": arm, "cell": cell, "quantity": quantity, **mean_row(values)}
