"""The figure: accuracies on images and on permuted images, their differences, and deviations in lockstep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlptheory.probes.drawing import draw_runs
from mlptheory.probes.permutation.cells import Cells
from mlptheory.probes.permutation.claims import TRAJECTORY_MARGIN
from mlptheory.probes.permutation.design import AFTER, AUGMENTED, BEFORE, PERMUTED, PLAIN
from mlptheory.reports import figure_style, new_figure

if TYPE_CHECKING:
    from mlptheory.probes.permutation.design import Permutation
    from mlptheory.probes.result import Result

COLORS = {"mlp": "C0", "baseline": "C1"}
OPTIMIZERS = {"lion": "Lion", "adamw": "AdamW", "sgd": "SGD"}
TEXTS = {
    PLAIN: "plain",
    PERMUTED: "permuted",
    AUGMENTED: "augmented",
    AFTER: "augment, permute",
    BEFORE: "permute, augment",
}
GRAY = "0.85"
_TILTED = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"}


def draw(probe: Permutation, result: Result) -> Figure:
    """Draw every run, means over seeds with their 95 % t intervals, differences, and deviations."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=3.4)
        accuracies, differences, deviations = figure.subplots(1, 3, width_ratios=(1.2, 1, 1.1))
        _accuracies(probe, cells, accuracies)
        _differences(probe, cells, differences)
        _deviations(cells, deviations)
    return figure


def _accuracies(probe: Permutation, cells: Cells, axes: Axes) -> None:
    columns = [(arm, images) for arm in probe.models for images in probe.treatments(arm)]
    for place, (arm, images) in enumerate(columns):
        draw_runs(axes, place, cells.accuracy(arm, images), COLORS[arm], images in (PLAIN, AUGMENTED))
    for arm, model in probe.models.items():
        axes.plot([], [], "o", color=COLORS[arm], markersize=4, label=model)
    axes.set_xticks(range(len(columns)), [TEXTS[images] for _, images in columns], **_TILTED)
    axes.set_ylabel(f"test accuracy on {probe.dataset} (%)")
    axes.legend(fontsize="x-small")
    axes.set_title("accuracy")


def _differences(probe: Permutation, cells: Cells, axes: Axes) -> None:
    rows = [
        ("permuting", "mlp", PLAIN, PERMUTED),
        ("permuting, augmented", "mlp", AUGMENTED, AFTER),
        ("order", "mlp", AFTER, BEFORE),
        ("permuting", "baseline", PLAIN, PERMUTED),
    ]
    axes.axhspan(-probe.margin, probe.margin, color=GRAY, zorder=0)
    axes.axhline(probe.effect, color="0.4", linewidth=0.8, linestyle="--", zorder=1)
    for place, (_, arm, first, second) in enumerate(rows):
        values = cells.accuracy(arm, first) - cells.accuracy(arm, second)
        draw_runs(axes, place, values, COLORS[arm], True)
    axes.set_xticks(range(len(rows)), [text for text, *_ in rows], **_TILTED)
    axes.set_ylabel("difference (percentage points)")
    axes.set_title("differences")


def _deviations(cells: Cells, axes: Axes) -> None:
    found = cells.exact()
    for place, cell in enumerate(found):
        for values, filled, aside in ((cells.right(*cell), True, -0.12), (cells.wrong(*cell), False, 0.12)):
            seen = 10 ** values[~np.isnan(values)]
            color = "C2" if filled else "C3"
            style = {"color": color, "markersize": 4, "markerfacecolor": color if filled else "none"}
            axes.plot([place + aside] * len(seen), seen, "o", alpha=0.6, **style)
    axes.plot([], [], "o", color="C2", markersize=4, label="same permutation")
    axes.plot([], [], "o", color="C3", markersize=4, markerfacecolor="none", label="another one")
    axes.axhline(10**-TRAJECTORY_MARGIN, color="0.4", linewidth=0.8, linestyle="--", zorder=1)
    axes.set_yscale("log")
    axes.set_ylim(10**-16.5, 10**2.5)
    axes.set_xticks(range(len(found)), [f"{model}, {OPTIMIZERS[name]}" for model, name in found], **_TILTED)
    axes.set_ylabel("largest deviation")
    axes.legend(fontsize="x-small", loc="center right")
    axes.set_title("in lockstep")
