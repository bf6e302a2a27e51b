"""The figure: accuracy over the sizes, accuracy by arm, and invariance error over accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlptheory.probes.augmentation.cells import Cells
from mlptheory.probes.augmentation.claims import invariance_to
from mlptheory.probes.augmentation.design import NONE
from mlptheory.probes.augmentation.evidence import match
from mlptheory.probes.drawing import batch_axis, draw_means
from mlptheory.reports import figure_style, new_figure
from mlptheory.stats import mean_interval

if TYPE_CHECKING:
    from mlptheory.probes.augmentation.design import Augmentation
    from mlptheory.probes.result import Result

GRAY = "0.45"
LEARNERS = {"mlp": "MLP", "cnn": "CNN"}


def draw(probe: Augmentation, result: Result) -> Figure:
    """Draw means over seeds with their 95 % t intervals and every run."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=2.9)
        sizes, arms, errors = figure.subplots(1, 3, width_ratios=(1, 1, 1))
        _over_sizes(probe, cells, sizes)
        _by_arm(probe, cells, arms)
        _over_accuracy(probe, cells, errors)
    return figure


def _over_sizes(probe: Augmentation, cells: Cells, axes: Axes) -> None:
    drawn = [(learner, arm) for learner in probe.models for arm in (probe.full, NONE)]
    for index, (learner, arm) in enumerate(drawn):
        # Lines stand a little beside each other, or their bars would hide one another.
        aside = 2 ** (0.06 * (index - (len(drawn) - 1) / 2))
        draw_means(
            axes,
            [size * aside for size in probe.ordered_sizes],
            100 * cells.curve(arm, learner=learner),
            "C0" if learner == "mlp" else "C1",
            "o" if learner == "mlp" else "s",
            label=f"{LEARNERS[learner]}, {arm}",
            style="-" if arm == probe.full else "--",
        )
    batch_axis(axes, probe.ordered_sizes, "training examples")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(fontsize="x-small", loc="upper left")
    # Room for the legend above the lines.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * len(drawn) / 2 * (high - low))


def _by_arm(probe: Augmentation, cells: Cells, axes: Axes) -> None:
    arms = probe.arms_of("mlp")
    for place, arm in enumerate(arms):
        values = cells.accuracy(arm)
        seen = values[~np.isnan(values)]
        if not len(seen):
            continue
        color = GRAY if arm == NONE else "C2" if arm in (probe.conjugated, probe.noise) else "C0"
        axes.plot(seen, [place] * len(seen), ".", color=color, alpha=0.4, markersize=3)
        if len(seen) > 1:
            interval = mean_interval(seen)
            axes.plot([interval.low, interval.high], [place] * 2, "-", color=color, linewidth=1)
        axes.plot(seen.mean(), place, "o", color=color, markersize=4)
    plain = cells.accuracy(NONE)
    if not np.isnan(plain).all():
        axes.axvline(np.nanmean(plain), color=GRAY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(arms)), [_two_lines(arm) for arm in arms])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy (%)")
    axes.set_title(f"MLP, {probe.largest} examples")


def _two_lines(arm: str) -> str:
    """Return an arm's name as narrow as its parts allow."""
    operators, _, rest = arm.partition(" ")
    if rest:
        return f"{operators}\n{rest}"
    return operators.replace("+mixup", "\n+mixup")


def _over_accuracy(probe: Augmentation, cells: Cells, axes: Axes) -> None:
    error = f"{invariance_to(probe)}_error_logits"
    for arm, color, style, marker in ((probe.full, "C0", "-", "o"), (NONE, GRAY, "--", "D")):
        accuracy, errors = 100 * cells.curve(arm), 100 * cells.curve(arm, error)
        seen = ~np.isnan(accuracy) & ~np.isnan(errors) & (errors > 0)
        axes.plot(accuracy[seen], errors[seen], ".", color=color, alpha=0.5, markersize=3)
        means = [
            (x[kept].mean(), np.exp(np.log(y[kept]).mean()))
            for x, y, kept in zip(accuracy.T, errors.T, seen.T, strict=True)
            if kept.any()
        ]
        filled = {} if arm == probe.full else {"markerfacecolor": "none"}
        x, y = np.array(means).reshape(-1, 2).T
        axes.plot(x, y, style, marker=marker, markersize=4, color=color, label=arm, **filled)
    found = match(probe, cells)
    if not isinstance(found, str):
        axes.axvline(100 * found.accuracy, color=GRAY, linewidth=1, linestyle=":")
    axes.set_xlabel("test accuracy (%)")
    axes.set_title(f"MLP, error under {invariance_to(probe)}s (%)")
    axes.legend(fontsize="x-small")
