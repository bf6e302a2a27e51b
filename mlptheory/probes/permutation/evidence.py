"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import Evidence, judge_together, mean_of, plain_mean
from mlptheory.probes.permutation import claims as named
from mlptheory.probes.permutation.cells import Cells
from mlptheory.probes.permutation.design import AFTER, AUGMENTED, BEFORE, PERMUTED, PLAIN
from mlptheory.stats import AnyEstimate, Estimate, Verdict, smallest_of

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.permutation.design import Permutation

EXACT = (("exact", "mlp", "both"),)
RESOLUTION = math.log10(2) / math.sqrt(12)
"""SD of a number known up to a factor of 2, in decades: deviations are whole numbers of roundings."""


def judge(probe: Permutation, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells = probe.claims(), Cells(probe, table)
    return judge_together(claims, [gather(probe, cells, claim.id) for claim in claims])


def gather(probe: Permutation, cells: Cells, claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known = {
        named.EQUIVALENT: lambda: _difference(cells, "mlp", PLAIN, PERMUTED),
        named.FALLS: lambda: _difference(cells, "baseline", PLAIN, PERMUTED),
        named.AUGMENTED_EQUIVALENT: lambda: _difference(cells, "mlp", AUGMENTED, AFTER),
        named.ORDER: lambda: _order(probe, cells),
        named.TRAJECTORY: lambda: _trajectory(cells),
        named.WRONG: lambda: _wrong(cells),
        named.LEAK: lambda: _leak(cells),
    }
    return known[claim]()


def _difference(cells: Cells, arm: str, first: str, second: str, note: str = "") -> Evidence:
    one, other = cells.accuracy(arm, first), cells.accuracy(arm, second)
    estimate, n = mean_of(one - other)
    found = f"{first.capitalize()} {_level(one)} %, {second} {_level(other)} %.{note}"
    return Evidence(estimate, n, cells.diverged(("run", arm, images) for images in (first, second)), found)


def _order(probe: Permutation, cells: Cells) -> Evidence:
    gain = cells.accuracy("mlp", AUGMENTED) - cells.accuracy("mlp", PLAIN)
    blind = cells.accuracy("mlp", BEFORE) - cells.accuracy("mlp", PERMUTED)
    note = f" Augmentation gains {plain_mean(gain)} on images, {plain_mean(blind)} on images permuted before it."
    found = _difference(cells, "mlp", AFTER, BEFORE, note)
    return replace(found, forced=found.forced or probe.order_mixed_with)


def _trajectory(cells: Cells) -> Evidence:
    decades = {cell: -cells.right(*cell) for cell in cells.exact()}
    estimate, n = _smallest_decades(list(decades.values()))
    each = ", ".join(f"{model} {optimizer} {_level(found)}" for (model, optimizer), found in decades.items())
    note = f"By cell: {each}. {_flips(cells)}"
    return Evidence(estimate, n, cells.diverged(EXACT) or cells.unbounded(("permuted",)), note)


def _wrong(cells: Cells) -> Evidence:
    leads = {cell: cells.wrong(*cell) - cells.right(*cell) for cell in cells.exact()}
    estimate, n = _smallest_decades(list(leads.values()))
    note = f"Under the wrong permutation Lion takes {_share(*cells.flips('exact', 'wrong'))} of the other sign."
    return Evidence(estimate, n, cells.diverged(EXACT) or cells.unbounded(("permuted", "wrong")), note)


def _leak(cells: Cells) -> Evidence:
    above = cells.accuracy("mlp", PLAIN, "shuffled") - cells.accuracy("mlp", PLAIN, "shuffled", "chance_accuracy")
    estimate, n = mean_of(above)
    return Evidence(estimate, n, cells.diverged((("shuffled", "mlp", PLAIN),)))


def _smallest_decades(parts: Sequence[np.ndarray]) -> tuple[AnyEstimate | None, int]:
    """Return the estimate of the smallest of several means of decades, whose spread is no smaller than can be seen.

    A deviation is a whole number of roundings, or none, so that all blocks can agree to the last digit.
    """
    estimates = [mean_of(part) for part in parts]
    n = min(count for _, count in estimates)
    return (smallest_of([_resolved(estimate, n) for estimate, n in estimates]) if n > 1 else None), n


def _resolved(estimate: Estimate, n: int) -> Estimate:
    return replace(estimate, standard_error=max(estimate.standard_error, RESOLUTION / math.sqrt(n)))


def _flips(cells: Cells) -> str:
    return (
        f"Under Lion {_share(*cells.flips('exact'))} have another sign in float64, "
        f"{_share(*cells.flips('one-step'))} in float32 from states made equal before each step."
    )


def _share(flips: float, updates: float) -> str:
    if math.isnan(flips) or math.isnan(updates):
        return "an unknown number of updates"
    return f"{flips:,.0f} of {updates:,.0f} updates"


def _level(values: np.ndarray) -> str:
    return "unknown" if np.isnan(values).all() else f"{np.nanmean(values):.1f}"
