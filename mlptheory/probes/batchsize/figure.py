"""The figure: test accuracy over batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mlptheory.probes.batchsize.judgment import cells_of
from mlptheory.reports import figure_style, new_figure
from mlptheory.stats import mean_interval

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize
    from mlptheory.probes.result import Result


def draw(probe: BatchSize, result: Result) -> Figure:
    """Draw test accuracy over batch size: a line a length through the means, bars their 95 % t intervals."""
    with figure_style():
        figure = new_figure()
        axes = figure.subplots()
        for index, epochs in enumerate(probe.epochs):
            cells = cells_of(probe, result.table, "arm", epochs)
            color, marker = f"C{index}", "osD^vP"[index % 6]
            # Lengths stand a little beside each other, or their bars would hide one another.
            aside = 2 ** (0.14 * (index - (len(probe.epochs) - 1) / 2))
            for size in cells.columns:
                values = cells[size].dropna()
                axes.plot([size * aside] * len(values), values, ".", color=color, alpha=0.6, markersize=4, zorder=3)
                if len(values) > 1:
                    interval = mean_interval(values)
                    ends = [interval.low, interval.high]
                    axes.plot([size * aside] * 2, ends, "-", color=color, linewidth=1)
            means = cells.mean()
            axes.plot(means.index * aside, means, "-", marker=marker, markersize=4, color=color, label=_epochs(epochs))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sorted(probe.batch_sizes)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(size) for size in sorted(probe.batch_sizes)])
        axes.set_xlabel("batch size")
        axes.set_ylabel("test accuracy (%)")
        axes.set_title(f"{probe.model} on {probe.dataset}, {len(probe.seed_list)} seeds")
        axes.legend()
    return figure


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"
