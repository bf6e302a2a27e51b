"""What figures of several probes are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from mlptheory.stats import mean_interval


def draw_means(
    axes: Axes,
    sizes: Sequence[float],
    values: np.ndarray,
    color: str,
    marker: str,
    *,
    label: str | None,
    style: str = "-",
    logarithmic: bool = False,
) -> None:
    """Draw one line through means, geometric ones on a logarithmic axis, with 95 % t intervals and every run.

    Parameters
    ----------
    sizes : sequence of float
        Where each column stands.
    values : ndarray of shape (runs, sizes)
        NaN where a run has none.
    """
    to, back = (np.log2, np.exp2) if logarithmic else (lambda y: y, lambda y: y)
    at, means = [], []
    for size, column in zip(sizes, values.T, strict=True):
        runs = column[~np.isnan(column)]
        if not len(runs):
            continue
        axes.plot([size] * len(runs), runs, ".", color=color, alpha=0.5, markersize=3, zorder=3)
        if len(runs) > 1:
            interval = mean_interval(to(runs))
            axes.plot([size] * 2, back([interval.low, interval.high]), "-", color=color, linewidth=1)
        at.append(size)
        means.append(float(back(to(runs).mean())))
    filled = {} if style == "-" else {"markerfacecolor": "none"}
    axes.plot(at, means, style, marker=marker, markersize=4, color=color, label=label, **filled)


def draw_runs(axes: Axes, place: float, values: np.ndarray, color: str, filled: bool = True) -> None:
    """Draw every run and, beside them, their mean with its 95 % t interval; nothing where none has a value."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return
    axes.plot([place - 0.15] * len(seen), seen, ".", color=color, alpha=0.4, markersize=3)
    if len(seen) > 1:
        interval = mean_interval(seen)
        axes.plot([place + 0.1] * 2, [interval.low, interval.high], "-", color=color, linewidth=1)
    axes.plot(place + 0.1, seen.mean(), "o", color=color, markersize=4, markerfacecolor=color if filled else "none")


def batch_axis(axes: Axes, sizes: Sequence[int], label: str = "batch size") -> None:
    """Give an axis a tick at every batch size, at equal distances for equal ratios."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(size) for size in sizes])
    axes.set_xlabel(label)


def share_scale(panels: Sequence[Axes]) -> None:
    """Give panels side by side the same vertical range."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
