"""The figure: accuracy on the target over the batch size of pretraining, and what it is set beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlptheory.probes.drawing import batch_axis, draw_means, share_scale
from mlptheory.probes.transfer.cells import Cells
from mlptheory.probes.transfer.design import ARMS
from mlptheory.reports import figure_style, new_figure
from mlptheory.stats import mean_interval

if TYPE_CHECKING:
    from mlptheory.probes.result import Result
    from mlptheory.probes.transfer.design import Transfer

GRAY = "0.45"
OPTIMIZERS = {"lion": "Lion", "adamw": "AdamW", "sgd": "SGD"}


def draw(probe: Transfer, result: Result) -> Figure:
    """Draw means over seeds with their 95 % t intervals and every run."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=3.2)
        probed, finetuned, summary = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
        _over_batch_sizes(probe, cells, "probing", probed)
        _baselines(probed, {"untrained body": cells.beside("untrained", "probing")})
        _over_batch_sizes(probe, cells, "finetuning", finetuned)
        from_scratch = _baselines(
            finetuned,
            {
                f"from scratch, {OPTIMIZERS[probe.optimizer]}": cells.column("run", "scratch"),
                "from scratch, as fine-tuning": cells.column("run", "scratch-as-finetuning"),
            },
        )
        probed.set_title("linear probe")
        finetuned.set_title("fine-tuned")
        probed.set_ylabel(f"test accuracy on {probe.target} (%)")
        _summary(probe, cells, summary)
        share_scale([probed, finetuned, summary])
        probed.legend(fontsize="x-small")
        if from_scratch:
            finetuned.legend(handles=from_scratch, fontsize="x-small")
    return figure


def _over_batch_sizes(probe: Transfer, cells: Cells, stage: str, axes: Axes) -> None:
    drawn = [(arm, length) for length in probe.lengths for arm in ARMS]
    for index, (arm, length) in enumerate(drawn):
        # Lines stand a little beside each other, or their bars would hide one another.
        aside = 2 ** (0.14 * (index - (len(drawn) - 1) / 2))
        at = probe.lengths.index(length)
        draw_means(
            axes,
            [size * aside for size in probe.sizes],
            cells.grid(stage, arm, length),
            f"C{at}",
            "osD^vP"[at % 6],
            label=f"{arm}, {length} epoch{'s' * (length > 1)}",
            style="-" if arm == "augmented" else "--",
        )
    batch_axis(axes, probe.sizes, "batch size of pretraining")


def _baselines(axes: Axes, levels: dict[str, np.ndarray]) -> list[Line2D]:
    """Draw a gray line at each mean, where no run is missing."""
    known = {text: values.mean() for text, values in levels.items() if not np.isnan(values).any()}
    return [
        axes.axhline(level, color=GRAY, linewidth=1, linestyle=style, label=text)
        for (text, level), style in zip(known.items(), (":", "-."), strict=False)
    ]


def _summary(probe: Transfer, cells: Cells, axes: Axes) -> None:
    """Draw a column for each way to the target, means over batch sizes and lengths, a dot a seed."""
    ways: dict[str, list[tuple[np.ndarray, str, bool]]] = {
        "untrained": [(cells.beside("untrained", "probing"), GRAY, True)],
        "shuffled source": [(cells.beside("shuffled-source", "probing"), GRAY, True)],
        "probe": _by_arm(cells, "probing", "test_accuracy"),
        "fine-tuned": _by_arm(cells, "finetuning", "test_accuracy"),
        "with TTA": _by_arm(cells, "finetuning", "tta_accuracy"),
        f"scratch, {OPTIMIZERS[probe.optimizer]}": [(cells.column("run", "scratch"), GRAY, True)],
        "scratch,\nas fine-tuning": [(cells.column("run", "scratch-as-finetuning"), GRAY, True)],
    }
    for place, groups in enumerate(ways.values()):
        for index, (values, color, filled) in enumerate(groups):
            at = place + 0.3 * (index - (len(groups) - 1) / 2)
            seen = values[~np.isnan(values)]
            if not len(seen):
                continue
            axes.plot([at] * len(seen), seen, ".", color=color, alpha=0.4, markersize=3)
            if len(seen) > 1:
                interval = mean_interval(seen)
                axes.plot([at] * 2, [interval.low, interval.high], "-", color=color, linewidth=1)
            axes.plot(at, seen.mean(), "o", color=color, markersize=4, markerfacecolor=color if filled else "none")
    axes.set_xticks(range(len(ways)), list(ways), rotation=55, ha="right", rotation_mode="anchor")
    axes.set_title("means")


def _by_arm(cells: Cells, stage: str, outcome: str) -> list[tuple[np.ndarray, str, bool]]:
    means = cells.everything(stage, outcome).mean(axis=(1, 3))
    return [(values, "C2", arm == "augmented") for arm, values in zip(ARMS, means, strict=True)]
