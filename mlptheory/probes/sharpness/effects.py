"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.effects import mean_row
from mlptheory.probes.sharpness.arms import nets
from mlptheory.probes.sharpness.cells import ADAPTIVE, ERROR, GAP, RAW, Cells, change
from mlptheory.probes.sharpness.design import EDGE_ARMS, SMALL_STEP

if TYPE_CHECKING:
    from mlptheory.probes.sharpness.design import Sharpness

COLUMNS = ("arm", "cell", "quantity", "mean", "low", "high", "n", "runs")


def effects(probe: Sharpness, table: pd.DataFrame) -> pd.DataFrame:
    """Return what each arm, net and batch size came to, and every rank correlation.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [*_edges(probe, cells), *_flows(probe, cells), *_batches(probe, cells), *_correlations(probe, cells)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _edges(probe: Sharpness, cells: Cells) -> Iterator[dict[str, Any]]:
    for arm in (*EDGE_ARMS, *((SMALL_STEP,) if probe.control else ())):
        place = cells.edge(arm)
        yield _row(arm, "edge", "sharpness over threshold (log2), last third", cells.raw(place, "edge_hovering"))
        yield _row(arm, "edge", "sharpness over threshold (log2), highest", cells.raw(place, "edge_highest"))
        yield _row(arm, "edge", "sharpness at the end", cells.raw(place, "edge_sharpness"))
        yield _row(arm, "edge", "test accuracy (%)", 100 * cells.raw(place, "test_accuracy"))


def _flows(probe: Sharpness, cells: Cells) -> Iterator[dict[str, Any]]:
    for width, depth in nets(probe):
        growth = cells.raw(cells.flow(width, depth), "sharpening")
        yield _row("", f"width {width}, depth {depth}", "growth of sharpness (log2)", growth)
    for name, places, sizes in (
        ("widths", cells.over_widths(), probe.widths_sorted),
        ("depths", cells.over_depths(), probe.depths_sorted),
    ):
        growth = change(cells.over(places, "sharpening"), sizes)
        yield _row("", name, "change of the growth of sharpness (log2), smallest to largest", growth)


def _batches(probe: Sharpness, cells: Cells) -> Iterator[dict[str, Any]]:
    for batch_size, place in zip(probe.batches_sorted, cells.batches(), strict=True):
        cell = f"batch size {batch_size}"
        yield _row("", cell, "sharpness (log2)", np.log2(cells.raw(place, RAW)))
        yield _row("", cell, "adaptive sharpness (log2)", np.log2(cells.raw(place, ADAPTIVE)))
        yield _row("", cell, "generalization gap (nats)", cells.raw(place, GAP))
        yield _row("", cell, "test error (%)", 100 * cells.raw(place, ERROR))
    for quantity, outcome in (("sharpness", RAW), ("adaptive sharpness", ADAPTIVE)):
        growth = change(np.log2(cells.over_batches(outcome)), probe.batches_sorted)
        yield _row("", "batch sizes", f"change of {quantity} (log2), smallest to largest", growth)
    gap = change(cells.over_batches(GAP), probe.batches_sorted)
    yield _row("", "batch sizes", "change of the generalization gap (nats), smallest to largest", gap)


def _correlations(probe: Sharpness, cells: Cells) -> Iterator[dict[str, Any]]:
    outcomes = {"generalization gap": GAP, "test error": ERROR}
    for text, outcome in outcomes.items():
        yield _row("", "batch sizes", f"τ of sharpness and {text}", cells.tau(RAW, outcome))
        yield _row("", "batch sizes", f"τ of adaptive sharpness and {text}", cells.tau(ADAPTIVE, outcome))
        if probe.control:
            yield _row("", "batch sizes", f"τ of rescaled sharpness and {text}", cells.rescaled_tau(outcome))
    if probe.control:
        yield _row("", "batch sizes", "τ of rescaled and own sharpness", cells.rescaled_tau(RAW))


def _row(arm: str, cell: str, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"arm": arm, "cell": cell, "quantity": quantity, **mean_row(values)}
