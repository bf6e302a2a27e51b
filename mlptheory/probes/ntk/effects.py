"""The effects beside the verdicts', for the reader: each with its own 95 % t interval, corrected for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlptheory.probes.effects import mean_row
from mlptheory.probes.ntk.arms import LIMITS, Cell
from mlptheory.probes.ntk.arms import cells as cells_of
from mlptheory.probes.ntk.cells import OUTCOMES, Cells, place_of
from mlptheory.probes.ntk.claims import COORDINATE_LAYERS
from mlptheory.probes.ntk.columns import PARTS

if TYPE_CHECKING:
    from mlptheory.probes.ntk.design import NeuralTangentKernel

COLUMNS = ("cell", "quantity", "mean", "low", "high", "n", "runs")
OVER_WIDTHS = ("kernel_deviation", "kernel_change", "kernel_distance", "relative_weight_change")
COMPARED = ("kernel_change", "kernel_distance", "relative_weight_change", "kernel_rank")
WAYS = {"standard": "width", "ntk": "ntk"}
"""The roles whose nets are trained at all widths, by parametrization."""


def effects(probe: NeuralTangentKernel, table: pd.DataFrame) -> pd.DataFrame:
    """Return exponents of width, departures from the center, accuracies beside each other, and all that was measured.

    Where an outcome is missing in some runs, the rest are a selection: the row has their mean, and no interval.
    """
    cells = Cells(probe, table)
    rows = [
        *_exponents(probe, cells),
        *_departures(probe, cells),
        *_accuracies(probe, cells),
        *_everything(probe, cells),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def text_of(probe: NeuralTangentKernel, cell: Cell) -> str:
    """Say what a cell is."""
    return {
        "center": "center",
        "width": f"width {cell.width}",
        "size": f"{cell.n} examples",
        "rate": f"learning rate × {cell.lr / probe.base_lr:g}",
        "optimizer": f"{cell.optimizer} at {cell.lr:g}",
        "ntk": f"NTK parametrization, width {cell.width}",
        "mup": f"μP, width {cell.width}",
        "coordinates": f"coordinate check, {cell.parametrization}, width {cell.width}",
        "scale": f"output scale {cell.output_scale:g}",
        "shuffled": "shuffled labels",
    }[cell.role]


def _exponents(probe: NeuralTangentKernel, cells: Cells) -> Iterator[dict[str, Any]]:
    for parametrization, role in WAYS.items():
        for outcome in OVER_WIDTHS:
            slope = cells.exponent(cells.over_widths(role, parametrization, outcome))
            yield _row(f"{parametrization} over widths", f"exponent of width of {_words(outcome)}", slope)
    for parametrization in ("standard", "mup"):
        for layer in COORDINATE_LAYERS:
            slope = cells.exponent(cells.over_widths("coordinates", parametrization, f"coordinate_{layer}"))
            quantity = f"exponent of width of the first steps' change of the {layer}"
            yield _row(f"coordinate check, {parametrization}", quantity, slope)


def _departures(probe: NeuralTangentKernel, cells: Cells) -> Iterator[dict[str, Any]]:
    for cell in cells_of(probe):
        # The ntk cells differ from the center in more than one thing: their differences would be no effect of any.
        if cell.role in ("center", "size", "shuffled", "coordinates", "ntk"):
            continue
        place, text = place_of(cell), text_of(probe, cell)
        for outcome in COMPARED:
            ratio = cells.logarithm(place, outcome) - cells.logarithm(cells.center, outcome)
            yield _row(text, f"log2 of {_words(outcome)}, over the center's", ratio)
        rise = cells.raw(place, "label_alignment") - cells.raw(cells.center, "label_alignment")
        yield _row(text, "label alignment, less the center's", rise)
        less = 100 * (cells.raw(place, "test_accuracy") - cells.raw(cells.center, "test_accuracy"))
        yield _row(text, "test accuracy, less the center's (%)", less)


def _accuracies(probe: NeuralTangentKernel, cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield how kernels and the linearized net compare with the net, over training-set sizes, and the curve."""
    for cell in cells_of(probe):
        place, text = place_of(cell), text_of(probe, cell)
        if cell.role in ("center", "size"):
            net = 100 * cells.raw(place, "net_accuracy")
            for kernel in ("initial", "final"):
                accuracy = 100 * cells.raw(place, f"{kernel}_kernel_accuracy")
                yield _row(text, f"accuracy of the {kernel} kernel, less the net's (%)", accuracy - net)
            for parametrization in LIMITS:
                for name, kernel in (("infinite_kernel", "infinite kernel"), ("nngp", "NNGP")):
                    accuracy = 100 * cells.infinite(parametrization, f"{name}_accuracy", cell.n)
                    quantity = f"accuracy of the {kernel}, {parametrization}, less the net's (%)"
                    yield _row(text, quantity, accuracy - net)
        if "linearized_training" in cell.measured:
            lead = 100 * (cells.raw(place, "linearized_accuracy") - cells.raw(place, "test_accuracy"))
            yield _row(text, "accuracy of the linearized net, less the net's (%)", lead)
    for part, curve in zip(PARTS, cells.curves(), strict=True):
        yield _row("center", f"log2 of predicted over measured error, {probe.largest // part} examples", curve)


def _everything(probe: NeuralTangentKernel, cells: Cells) -> Iterator[dict[str, Any]]:
    for cell in cells_of(probe):
        for outcome in OUTCOMES:
            values = cells.raw(place_of(cell), outcome)
            if not np.isnan(values).all():
                is_share = outcome.endswith(("_accuracy", "_chance"))
                quantity = f"{_words(outcome)} (%)" if is_share else _words(outcome)
                yield _row(text_of(probe, cell), quantity, 100 * values if is_share else values)


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _row(cell: str, quantity: str, values: np.ndarray) -> dict[str, Any]:
    return {"cell": cell, "quantity": quantity, **mean_row(values)}
