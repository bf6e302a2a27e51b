"""The figure: locality over the training-set size, over the other factors, and in the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlptheory.probes.drawing import batch_axis, draw_means, share_scale
from mlptheory.probes.locality.arms import cells as cells_of
from mlptheory.probes.locality.cells import Cells, Place
from mlptheory.probes.locality.design import ARMS, CONTROL_DATASETS
from mlptheory.probes.locality.effects import place_of
from mlptheory.reports import figure_style, new_figure
from mlptheory.stats import mean_interval

if TYPE_CHECKING:
    from mlptheory.probes.locality.arms import Cell
    from mlptheory.probes.locality.design import Locality
    from mlptheory.probes.result import Result

GRAY = "0.45"
LABELS = {
    "local_share": "local share of {} (%)",
    "ipr": "participation ratio of {}, inverse (% of W₀'s)",
    "spread": "spread of {}, negated (% of W₀'s)",
}
OPTIMIZERS = {"lion": "Lion", "adamw": "AdamW", "sgd": "SGD"}
REFERENCES = {"gaussian": (":", "Gaussian surrogates"), "shuffled": ("-.", "pixels shuffled")}
COLORS = dict(zip(ARMS, ("C0", "C1"), strict=True))

Group = tuple[np.ndarray, str, bool]
"""Values by block, color, and whether the mean's marker is filled."""


def draw(probe: Locality, result: Result) -> Figure:
    """Draw means over seeds with their 95 % t intervals and every run."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=3.2)
        widths = (1, 1.3, 0.7) if probe.control else (1, 1.3)
        panels = figure.subplots(1, len(widths), width_ratios=widths)
        _over_sizes(probe, cells, panels[0])
        _over_factors(probe, cells, panels[1])
        share_scale(panels[:2])
        panels[0].set_ylabel(LABELS[probe.statistic].format({"change": "W − W₀", "weights": "W"}[probe.of]))
        if probe.control:
            _control(probe, cells, panels[2])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="x-small")
    return figure


def _over_sizes(probe: Locality, cells: Cells, axes: Axes) -> None:
    for index, arm in enumerate(ARMS):
        aside = 2 ** (0.14 * (index - 0.5))
        sizes = [n * aside for n in probe.sizes_sorted]
        style = "-" if arm == "augmented" else "--"
        draw_means(axes, sizes, cells.over_sizes(arm), COLORS[arm], "os"[index], label=arm, style=style)
        for reference, (dots, text) in _references(probe).items():
            values = [_mean(cells.local(place, probe.of, reference)) for place in cells.sizes(arm)]
            axes.plot(sizes, values, dots, color=COLORS[arm], linewidth=1, label=f"{text}, {arm}", zorder=1)
    initial = _mean(cells.local(cells.center("augmented"), "initial"))
    axes.axhline(initial, color=GRAY, linewidth=1, label="W₀", zorder=0)
    batch_axis(axes, probe.sizes_sorted, "training examples")
    axes.set_title("training-set size")


def _references(probe: Locality) -> dict[str, tuple[str, str]]:
    return {name: shown for name, shown in REFERENCES.items() if (probe.statistic, name) != ("ipr", "shuffled")}


def _mean(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).any() else float(values.mean())


def _over_factors(probe: Locality, cells: Cells, axes: Axes) -> None:
    shown = [cell for cell in cells_of(probe) if cell.role != "size"]
    for at, cell in enumerate(shown):
        groups = [(cells.local(place_of(probe, cell, arm), probe.of), COLORS[arm], arm == "augmented") for arm in ARMS]
        _column(axes, at, groups)
    axes.set_xticks(range(len(shown)), map(_tick, shown), rotation=55, ha="right", rotation_mode="anchor")
    axes.set_title("other factors")


def _tick(cell: Cell) -> str:
    return {
        "center": "center",
        "steps": f"{cell.n}, equal steps",
        "epochs": f"{cell.epochs} epochs",
        "decay": "weight decay",
        "optimizer": OPTIMIZERS[cell.optimizer],
    }[cell.role]


def _control(probe: Locality, cells: Cells, axes: Axes) -> None:
    for at, name in enumerate(CONTROL_DATASETS):
        place: Place = cells.control(name)
        groups: list[Group] = [(cells.local(place, probe.of), "C2", True)]
        groups += [(cells.local(place, probe.of, reference), GRAY, False) for reference in _references(probe)]
        _column(axes, at, groups)
    axes.set_xticks(range(2), ["edges", "Gaussian"], rotation=55, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, 1.6)
    axes.set_title("control")


def _column(axes: Axes, at: int, groups: Sequence[Group]) -> None:
    """Draw groups beside each other, a dot a seed, with means and their intervals."""
    for index, (values, color, filled) in enumerate(groups):
        x = at + 0.3 * (index - (len(groups) - 1) / 2)
        seen = values[~np.isnan(values)]
        if not len(seen):
            continue
        axes.plot([x] * len(seen), seen, ".", color=color, alpha=0.4, markersize=3)
        if len(seen) > 1:
            interval = mean_interval(seen)
            axes.plot([x] * 2, [interval.low, interval.high], "-", color=color, linewidth=1)
        axes.plot(x, seen.mean(), "o", color=color, markersize=4, markerfacecolor=color if filled else "none")
