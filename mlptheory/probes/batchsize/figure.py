"""The figure: accuracy over batch size, a panel for each policy; sharpness and steps below where measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mlptheory.probes.batchsize.cells import Cells
from mlptheory.probes.batchsize.design import UNITS
from mlptheory.probes.drawing import batch_axis, draw_means, share_scale
from mlptheory.reports import figure_style, new_figure

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize
    from mlptheory.probes.result import Result

TITLES = {
    "fixed": "fixed learning rate",
    "linear": "learning rate ∝ B",
    "sqrt": "learning rate ∝ √B",
    "tuned": "tuned learning rate",
}


def draw(probe: BatchSize, result: Result) -> Figure:
    """Draw means over seeds with their 95 % t intervals and every run."""
    cells = Cells(probe, result.table)
    below = _below(probe, cells)
    columns = max(len(probe.lr_policies), len(below))
    with figure_style():
        figure = new_figure(columns=min(columns, 2), height=4.6 if below else 2.6)
        grid = figure.subplots(2 if below else 1, columns, squeeze=False)
        for axes in grid.flat[len(probe.lr_policies) : columns]:
            axes.set_visible(False)
        panels = dict(zip(probe.lr_policies, grid[0], strict=False))
        for policy, axes in panels.items():
            _accuracy(probe, cells, policy, axes)
        share_scale(list(panels.values()))
        grid[0][0].set_ylabel("test accuracy (%)")
        grid[0][0].legend()
        for axes, (label, values) in zip(grid[-1], below.items(), strict=False):
            draw_means(axes, probe.sizes, values, "C2", "D", label=None, logarithmic=True)
            axes.set_yscale("log")
            # Values span an octave or many: what is shown between decades keeps at least a few ticks.
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylabel(label)
            batch_axis(axes, probe.sizes)
        if below:
            for axes in grid[-1][len(below) :]:
                axes.set_visible(False)
    return figure


def _below(probe: BatchSize, cells: Cells) -> dict[str, np.ndarray]:
    """Return what is drawn below the accuracies, by its axis label."""
    longest = max(probe.lengths)
    found = {
        r"$\lambda_{\max}$ at equal loss": cells.of("sharpness_at_target", "run", "mlp", "fixed", longest),
        "steps to target": cells.of("steps_to_target", "run", "mlp", probe.main_policy, longest),
    }
    return {label: values for label, values in found.items() if not np.isnan(values).all()}


def _accuracy(probe: BatchSize, cells: Cells, policy: str, axes: Axes) -> None:
    drawn = [(arm, length) for arm in probe.models for length in probe.lengths]
    for index, (arm, length) in enumerate(drawn):
        # Lines stand a little beside each other, or their bars would hide one another.
        aside = 2 ** (0.14 * (index - (len(drawn) - 1) / 2))
        color, marker = f"C{probe.lengths.index(length)}", "osD^vP"[probe.lengths.index(length) % 6]
        label = f"{probe.models[arm]}, {length} {_unit(probe, length)}"
        draw_means(
            axes,
            [size * aside for size in probe.sizes],
            cells.accuracy(arm, policy, length),
            color,
            marker,
            label=label,
            style="-" if arm == "mlp" else "--",
        )
    axes.set_title(TITLES[policy])
    batch_axis(axes, probe.sizes)


def _unit(probe: BatchSize, length: int) -> str:
    unit = UNITS[probe.budget]
    return unit[:-1] if length == 1 and unit.endswith("s") and probe.budget != "compute" else unit
