"""The figure: curves at the edge, sharpening over nets, and sharpness against the generalization gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlptheory.probes.drawing import batch_axis, draw_means
from mlptheory.probes.sharpness.cells import GAP, RAW, Cells
from mlptheory.probes.sharpness.design import ADAM, EDGE_ARMS, GD, MOMENTUM, SMALL_STEP
from mlptheory.reports import figure_style, new_figure

if TYPE_CHECKING:
    from mlptheory.probes.result import Result
    from mlptheory.probes.sharpness.design import Sharpness

NAMES = {GD: "gradient descent", MOMENTUM: "momentum", ADAM: "Adam", SMALL_STEP: "small step"}
COLORS = dict(zip((*EDGE_ARMS, SMALL_STEP), ("C0", "C1", "C2", "0.45"), strict=True))


def draw(probe: Sharpness, result: Result) -> Figure:
    """Draw every run's curve at the edge, means over seeds of sharpening, and every net of the batch part."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=4.6)
        panels = figure.subplots(2, 2)
        _curves(probe, result, panels[0, 0])
        _flows(probe, cells, panels[0, 1])
        _over_batches(probe, cells, panels[1, 0])
        _gap(probe, cells, panels[1, 1])
    return figure


def _curves(probe: Sharpness, result: Result, axes: Axes) -> None:
    table = result.table
    ratios = result.history[result.history["quantity"] == "edge_ratio"]
    for arm in (*EDGE_ARMS, *((SMALL_STEP,) if probe.control else ())):
        label: str | None = NAMES[arm]
        for trial in np.flatnonzero((table["role"] == "edge") & (table["arm"] == arm)):
            run = ratios[ratios["trial"] == trial]
            values = run["value"].to_numpy(dtype=float)
            axes.plot(run["step"], values, color=COLORS[arm], linewidth=0.7, alpha=0.7, label=label)
            label = None
    axes.axhline(0, color="black", linewidth=0.8, linestyle="--")
    axes.axhspan(-probe.edge_margin, probe.edge_margin, color="0.5", alpha=0.15, linewidth=0)
    axes.set_xlabel("steps")
    axes.set_ylabel("log2 of sharpness over threshold")
    axes.set_title("at the edge")
    axes.legend(loc="center right", ncols=2, fontsize="x-small")


def _flows(probe: Sharpness, cells: Cells, axes: Axes) -> None:
    parts = (("width", cells.over_widths(), probe.widths_sorted), ("depth", cells.over_depths(), probe.depths_sorted))
    ticks, labels, at = [], [], 0
    for index, (name, places, sizes) in enumerate(parts):
        where = [at + place for place in range(len(sizes))]
        draw_means(axes, where, cells.over(places, "sharpening"), f"C{index}", "os"[index], label=name)
        ticks += where
        labels += [str(size) for size in sizes]
        at += len(sizes) + 1
    axes.axhline(0, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(ticks, labels)
    axes.set_xlabel("hidden units a layer (left), hidden layers (right)")
    axes.set_ylabel("growth of sharpness (log2)")
    axes.set_title("below the edge, at equal loss")
    axes.legend(loc="upper left", fontsize="x-small")


def _over_batches(probe: Sharpness, cells: Cells, axes: Axes) -> None:
    sizes = probe.batches_sorted
    draw_means(axes, sizes, cells.over_batches(RAW), "C0", "o", label="as trained", logarithmic=True)
    if probe.control:
        first = np.exp2(cells.rescaled()[0])
        draw_means(axes, sizes, first, "0.45", "s", label="layers rescaled", style=":", logarithmic=True)
    axes.set_yscale("log", base=2)
    batch_axis(axes, sizes)
    axes.set_ylabel("sharpness")
    axes.set_title("over the batch size, at equal loss")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.25)  # room for the legend above the intervals
    axes.legend(loc="upper left", ncols=2, fontsize="x-small")


def _gap(probe: Sharpness, cells: Cells, axes: Axes) -> None:
    sharpness, gap = cells.over_batches(RAW), cells.over_batches(GAP)
    for index, block in enumerate(probe.seed_list):
        order = np.argsort(sharpness[index])
        color = f"C{index % 10}"
        axes.plot(sharpness[index][order], gap[index][order], "-", color=color, linewidth=0.4, alpha=0.5)
        axes.plot(sharpness[index], gap[index], ".", color=color, markersize=4, label=f"{block}")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("sharpness")
    axes.set_ylabel("test less training loss (nats)")
    axes.set_title("generalization gap, a line a seed")
