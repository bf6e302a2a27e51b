"""The figure: kernels over widths, along training, what they predict, and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mlptheory.probes.drawing import batch_axis, draw_means
from mlptheory.probes.ntk.cells import Cells, Place
from mlptheory.probes.ntk.columns import PARTS
from mlptheory.reports import figure_style, new_figure

if TYPE_CHECKING:
    from mlptheory.probes.ntk.design import NeuralTangentKernel
    from mlptheory.probes.result import Result

GRAY = "0.45"
COLORS = {"ntk": "C0", "standard": "C1", "mup": "C2"}
NAMES = {"ntk": "NTK", "standard": "standard", "mup": "μP"}
PREDICTORS = (
    ("net_accuracy", "net", "C3"),
    ("final_kernel_accuracy", "final kernel", "C2"),
    ("initial_kernel_accuracy", "initial kernel", "C0"),
)
ASIDE = 1.07


def draw(probe: NeuralTangentKernel, result: Result) -> Figure:
    """Draw means over seeds with their 95 % t intervals and every run."""
    cells = Cells(probe, result.table)
    with figure_style():
        figure = new_figure(columns=2, height=4.6)
        panels = figure.subplots(2, 4)
        _over_widths(
            probe, cells, panels[0, 0], "kernel_deviation", "initialization", "distance to the limit, relative"
        )
        _over_widths(probe, cells, panels[0, 1], "kernel_change", "training", "change of the kernel, relative")
        _along(probe, result, panels[0, 2])
        _alignment(cells, panels[0, 3])
        _predictions(probe, cells, panels[1, 0])
        _curve(probe, cells, panels[1, 1])
        _coordinates(probe, cells, panels[1, 2])
        _scales(probe, cells, panels[1, 3])
        for axes in panels.flat:
            axes.tick_params(labelsize="x-small")
            axes.xaxis.label.set_size("x-small")
            axes.yaxis.label.set_size("x-small")
            axes.title.set_size("small")
    return figure


def _over_widths(probe: NeuralTangentKernel, cells: Cells, axes: Axes, outcome: str, title: str, label: str) -> None:
    widths = probe.widths_sorted
    for role, parametrization, aside in (("ntk", "ntk", 1 / ASIDE), ("width", "standard", ASIDE)):
        values = np.exp2(cells.over_widths(role, parametrization, outcome))
        at = [width * aside for width in widths]
        style = "-" if parametrization == "ntk" else "--"
        _line(axes, at, values, COLORS[parametrization], "os"[role == "width"], NAMES[parametrization], style)
        if parametrization == "ntk" and not np.isnan(values[:, 0]).all():
            start = float(np.exp2(np.nanmean(np.log2(values[:, 0]))))
            law = [start * (width / widths[0]) ** -0.5 for width in widths]
            axes.plot(widths, law, ":", color=GRAY, linewidth=1, label="width to the −1/2")
    _widths(axes, widths)
    axes.set_ylabel(label)
    axes.set_title(title)
    _legend_above(axes)


def _along(probe: NeuralTangentKernel, result: Result, axes: Axes) -> None:
    """Draw the kernel's velocity over epochs: the center's, a line a seed, and the means of other rates."""
    table, history = result.table, result.history
    seen = history[history["quantity"] == "kernel_velocity"]
    rates = sorted({row for row in table.loc[table["role"] == "rate", "lr"]})
    shown = [("center", probe.base_lr, "C1", "center")]
    shown += [("rate", lr, f"C{4 + index}", f"rate × {lr / probe.base_lr:g}") for index, lr in enumerate(rates)]
    for role, lr, color, label in shown:
        rows = table.index[(table["role"] == role) & (table["lr"] == lr)]
        runs = [seen[seen["trial"] == row] for row in rows]
        runs = [run for run in runs if len(run) == probe.epochs and (run["value"] > 0).all()]
        if not runs:
            continue
        logs = np.log2([run["value"].to_numpy(dtype=float) for run in runs])
        epochs = runs[0]["epoch"].to_numpy()
        if role == "center":
            for run in logs:
                axes.plot(epochs, np.exp2(run), "-", color=color, linewidth=0.5, alpha=0.4)
        axes.plot(epochs, np.exp2(logs.mean(axis=0)), "o-", color=color, markersize=2, linewidth=1, label=label)
    _logarithmic(axes)
    axes.set_xlabel("epoch")
    axes.set_ylabel("kernel distance per epoch")
    axes.set_title("velocity")
    if axes.lines:
        axes.legend(fontsize="xx-small")


def _alignment(cells: Cells, axes: Axes) -> None:
    for name, color, label in (("label_alignment", "C1", "labels"), ("permuted_alignment", GRAY, "permuted labels")):
        values = np.stack([cells.raw(cells.center, f"{name}_initial"), cells.raw(cells.center, name)], axis=1)
        _line(axes, [0, 1], values, color, "o", label, "-", logarithmic=False)
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_xlim(-0.4, 1.4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("alignment, centered")
    axes.set_title("labels")
    axes.legend(fontsize="xx-small")


def _predictions(probe: NeuralTangentKernel, cells: Cells, axes: Axes) -> None:
    sizes = probe.sizes_sorted
    places = [*cells.places("size"), cells.center] if len(sizes) > 1 else [cells.center]
    for index, (outcome, label, color) in enumerate(PREDICTORS):
        values = 100 * np.stack([cells.raw(place, outcome) for place in places], axis=1)
        at = [n * ASIDE ** (index - 1) for n in sizes]
        _line(axes, at, values, color, "osD"[index], label, "-", logarithmic=False)
    infinite = [100 * cells.infinite("standard", "infinite_kernel_accuracy", n) for n in sizes]
    axes.plot(sizes, infinite, "x:", color=GRAY, markersize=4, linewidth=1, label="infinite kernel")
    linear = 100 * cells.raw(cells.center, "linearized_accuracy")
    _line(axes, [probe.largest * ASIDE**3], linear[:, None], "C4", "^", "linearized", "none", logarithmic=False)
    _sizes(axes, sizes)
    axes.set_ylabel("test accuracy (%)")
    axes.set_title("what is predicted")
    axes.legend(fontsize="xx-small")


def _curve(probe: NeuralTangentKernel, cells: Cells, axes: Axes) -> None:
    sizes = [probe.largest // part for part in PARTS]
    for name, color, marker, style in (("measured", "C0", "o", "-"), ("predicted", GRAY, "x", ":")):
        logs = np.stack([cells.logarithm(cells.center, f"curve_{name}_{part}") for part in PARTS], axis=1)
        at = [n * (ASIDE if name == "measured" else 1 / ASIDE) for n in sizes]
        _line(axes, at, np.exp2(logs), color, marker, name, style)
    _sizes(axes, sizes)
    _logarithmic(axes)
    axes.set_ylabel("mean squared error")
    axes.set_title("learning curve")
    axes.legend(fontsize="xx-small")


def _coordinates(probe: NeuralTangentKernel, cells: Cells, axes: Axes) -> None:
    widths = probe.widths_sorted
    for parametrization in ("standard", "mup"):
        for layer, marker, style in (("logits", "o", "-"), ("stream", "s", "--"), ("embedding", "^", ":")):
            values = np.exp2(cells.over_widths("coordinates", parametrization, f"coordinate_{layer}"))
            label = f"{layer}, {NAMES[parametrization]}"
            _line(axes, widths, values, COLORS[parametrization], marker, label, style)
    _widths(axes, widths)
    axes.set_ylabel("change of coordinates, RMS")
    axes.set_title("coordinate check")
    _legend_above(axes)


def _scales(probe: NeuralTangentKernel, cells: Cells, axes: Axes) -> None:
    axes.set_title("output scale")
    axes.set_ylabel("kernel distance over training")
    if not probe.control:
        axes.set_axis_off()
        return
    rich, lazy = cells.places("scale")
    places: list[Place] = [rich, cells.center, lazy]
    scales = [probe.output_scales[0], 1.0, probe.output_scales[1]]
    order = np.argsort(scales)
    logs = np.stack([cells.logarithm(places[index], "kernel_distance") for index in order], axis=1)
    _line(axes, [scales[index] for index in order], np.exp2(logs), "C1", "o", None, "-")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(scales), [f"{scale:g}" for scale in sorted(scales)])
    _logarithmic(axes)
    axes.set_xlabel("factor on the logits")


def _line(
    axes: Axes,
    at: Sequence[float],
    values: np.ndarray,
    color: str,
    marker: str,
    label: str | None,
    style: str,
    *,
    logarithmic: bool = True,
) -> None:
    draw_means(axes, at, values, color, marker, label=label, style=style, logarithmic=logarithmic)


def _widths(axes: Axes, widths: Sequence[int]) -> None:
    batch_axis(axes, widths, "width")
    _logarithmic(axes)


def _sizes(axes: Axes, sizes: Sequence[int]) -> None:
    batch_axis(axes, sizes, "training examples")


def _logarithmic(axes: Axes) -> None:
    """Give an axis of powers of ten ticks at 1, 2 and 5, written as numbers; none where there is nothing to see."""
    if not np.isfinite(axes.dataLim.minposy):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend_above(axes: Axes) -> None:
    """Put the legend into room of its own above a logarithmic axis's lines."""
    low, high = axes.get_ylim()
    entries = len(axes.get_legend_handles_labels()[1])
    if axes.get_yscale() == "log":
        axes.set_ylim(low, high * (high / low) ** (0.09 * entries))
    axes.legend(fontsize="xx-small", loc="upper right", borderaxespad=0.1)
