"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import (
    Evidence,
    blocks_lacking,
    judge_together,
    mean_of,
    plain_mean,
    smallest_mean_of,
)
from mlptheory.probes.ntk import claims as named
from mlptheory.probes.ntk.cells import Cells, Place
from mlptheory.stats import Verdict, bonferroni_level, mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.ntk.design import NeuralTangentKernel


def judge(probe: NeuralTangentKernel, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells = probe.claims(), Cells(probe, table)
    return judge_together(claims, [gather(probe, cells, claim.id) for claim in claims])


def gather(probe: NeuralTangentKernel, cells: Cells, claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known = {
        named.FLUCTUATION: _fluctuation,
        named.LAZIER: _lazier,
        named.FAST: _fast,
        named.ALIGNMENT: _alignment,
        named.BETTER: _better,
        named.MATCHES: _matches,
        named.INFINITE: _infinite,
        named.LINEARIZED: _linearized,
        named.CURVE: _curve,
        named.COORDINATES: _coordinates,
        named.STANDARD: _standard,
        named.SCALE: _scale,
        named.SHUFFLED: _shuffled,
        named.SHUFFLED_KERNEL: _shuffled_kernel,
    }
    found = known[claim](probe, cells)
    return replace(found, forced=found.forced or blocks_lacking(found.n, len(probe.seed_list)))


def _fluctuation(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    deviations = cells.over_widths("ntk", "ntk", "kernel_deviation")
    off = cells.exponent(deviations) + 0.5
    estimate, n = mean_of(off)
    bent = _bent(probe, deviations, -0.5 - 2 * probe.margin_exponent, -0.5 + 2 * probe.margin_exponent)
    # A kernel before the first step does not know whether training diverged, but its record does not hold it then.
    forced = cells.diverged(cells.places("ntk", "ntk")) or bent
    note = f"Mean exponent {plain_mean(off - 0.5)}."
    return Evidence(estimate, n, forced, note)


def _lazier(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    changes = cells.over_widths("ntk", "ntk", "kernel_change")
    exponent = -cells.exponent(changes)
    estimate, n = mean_of(exponent)
    bent = None
    if not np.isnan(exponent).all() and np.nanmean(exponent) > 0.5 - probe.margin_exponent:
        bent = _bent(probe, changes, -np.inf, -0.5 + 2 * probe.margin_exponent)
    return Evidence(estimate, n, cells.diverged(cells.places("ntk", "ntk")) or bent)


def _bent(probe: NeuralTangentKernel, values: np.ndarray, low: float, high: float) -> str | None:
    """Say that the slope between two neighboring widths is shown to lie outside of bounds; None if none is.

    Bonferroni's level over all pairs, so that a law which holds between all is stopped in at most 5 % of studies.
    """
    widths = probe.widths_sorted
    level = bonferroni_level(len(widths) - 1)
    for place in range(len(widths) - 1):
        slopes = (values[:, place + 1] - values[:, place]) / np.log2(widths[place + 1] / widths[place])
        slopes = slopes[~np.isnan(slopes)]
        if len(slopes) < 2:
            continue
        slope = mean_interval(slopes, level)
        if slope.low > high or slope.high < low:
            return (
                f"Not one power law: from width {widths[place]} to {widths[place + 1]} the exponent is "
                f"{slope.estimate:.2f} [{slope.low:.2f}, {slope.high:.2f}]."
            )
    return None


def _fast(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    center = cells.center
    ratio = cells.logarithm(center, "kernel_velocity_first") - cells.logarithm(center, "kernel_velocity")
    return _single(cells, ratio, [center])


def _alignment(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    center = cells.center
    rise = cells.raw(center, "label_alignment") - cells.raw(center, "label_alignment_initial")
    null = cells.raw(center, "permuted_alignment") - cells.raw(center, "permuted_alignment_initial")
    note = f"Labels {plain_mean(rise)}, permuted labels {plain_mean(null)}."
    return _single(cells, rise - null, [center], note)


def _better(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    return _difference(cells, cells.center, "final_kernel_accuracy", "initial_kernel_accuracy")


def _matches(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    return _difference(cells, cells.center, "final_kernel_accuracy", "net_accuracy")


def _linearized(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    return _difference(cells, cells.center, "linearized_accuracy", "test_accuracy")


def _infinite(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    infinite = cells.infinite("standard", "infinite_kernel_accuracy", probe.largest)
    lead = 100 * (infinite - cells.raw(cells.center, "net_accuracy"))
    places = [cells.center, *cells.places("infinite", "standard")]
    return _single(cells, lead, places, f"Infinite kernel {_shown(np.array([100 * infinite]))} %.")


def _difference(cells: Cells, place: Place, outcome: str, less: str) -> Evidence:
    """Return the evidence for a difference of two accuracies of the same net, in percentage points."""
    one, other = 100 * cells.raw(place, outcome), 100 * cells.raw(place, less)
    return _single(cells, one - other, [place], f"Means {_shown(one)} and {_shown(other)} %.")


def _curve(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    curves = cells.curves()
    note = f"Means {', '.join(map(plain_mean, curves))}, smallest part first."
    return _room(cells, curves, probe.margin_curve, [cells.center], note)


def _coordinates(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    layers = [f"coordinate_{name}" for name in named.COORDINATE_LAYERS]
    slopes = [cells.exponent(cells.over_widths("coordinates", "mup", layer)) for layer in layers]
    shown = zip(named.COORDINATE_LAYERS, map(plain_mean, slopes), strict=True)
    note = f"Mean exponents: {', '.join(f'{name} {mean}' for name, mean in shown)}."
    return _room(cells, slopes, probe.margin_coordinates, cells.places("coordinates", "mup"), note)


def _room(cells: Cells, parts: Sequence[np.ndarray], tolerance: float, places: list[Place], note: str) -> Evidence:
    """Return the evidence for what a tolerance leaves to the largest of several magnitudes."""
    estimate, n = smallest_mean_of([tolerance + sign * part for part in parts for sign in (-1, 1)])
    return Evidence(estimate, n, cells.diverged(places), note)


def _standard(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    slopes = cells.exponent(cells.over_widths("coordinates", "standard", "coordinate_logits"))
    return _single(cells, slopes, cells.places("coordinates", "standard"))


def _scale(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    places = cells.places("scale")
    rich, lazy = (cells.logarithm(place, "kernel_distance") for place in places)
    accuracies = (_shown(100 * cells.raw(place, "test_accuracy")) for place in places)
    return _single(cells, rich - lazy, places, f"Test accuracy, rich and lazy: {' and '.join(accuracies)} %.")


def _shuffled(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    return _difference(cells, cells.places("shuffled")[0], "net_accuracy", "net_chance")


def _shuffled_kernel(probe: NeuralTangentKernel, cells: Cells) -> Evidence:
    return _difference(cells, cells.places("shuffled")[0], "final_kernel_accuracy", "final_kernel_chance")


def _single(cells: Cells, values: np.ndarray, places: Sequence[Place], note: str = "") -> Evidence:
    estimate, n = mean_of(values)
    return Evidence(estimate, n, cells.diverged(places), note)


def _shown(accuracies: np.ndarray) -> str:
    """Return a mean accuracy for a sentence, of the runs that have one."""
    return "unknown" if np.isnan(accuracies).all() else f"{np.nanmean(accuracies):.2f}"
