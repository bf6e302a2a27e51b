"""From a table to what stands behind each claim, and to the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mlptheory.probes.evidence import Evidence, blocks_lacking, judge_together, mean_of, not_monotone, plain_mean
from mlptheory.probes.sharpness import claims as named
from mlptheory.probes.sharpness.cells import ADAPTIVE, GAP, RAW, Cells, Place, change
from mlptheory.probes.sharpness.design import ADAM, GD, MOMENTUM, SMALL_STEP
from mlptheory.stats import Verdict, mean_estimate

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.sharpness.design import Sharpness


def judge(probe: Sharpness, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    claims, cells = probe.claims(), Cells(probe, table)
    return judge_together(claims, [gather(probe, cells, claim.id) for claim in claims])


def gather(probe: Sharpness, cells: Cells, claim: str) -> Evidence:
    """Return the evidence for a claim of the design, by its name."""
    known: dict[str, Callable[[], Evidence]] = {
        named.EDGE_GD: lambda: _edge(cells, GD),
        named.EDGE_MOMENTUM: lambda: _edge(cells, MOMENTUM),
        named.EDGE_ADAM: lambda: _edge(cells, ADAM),
        named.SHARPENING: lambda: _sharpening(probe, cells),
        named.WIDER: lambda: _wider(probe, cells),
        named.DEEPER: lambda: _deeper(probe, cells),
        named.PREDICTS: lambda: _tau(cells, cells.tau(RAW, GAP)),
        named.ADAPTIVE_PREDICTS: lambda: _tau(cells, cells.tau(ADAPTIVE, GAP)),
        named.BELOW: lambda: _below(cells),
        named.RESCALED: lambda: _rescaled(cells),
        named.SAME_FUNCTION: lambda: _exact(cells, "function_change"),
        named.SAME_ADAPTIVE: lambda: _exact(cells, "adaptive_change"),
    }
    found = known[claim]()
    return replace(found, forced=found.forced or blocks_lacking(found.n, len(probe.seed_list)))


def _edge(cells: Cells, arm: str) -> Evidence:
    place = cells.edge(arm)
    hovering, highest = cells.raw(place, "edge_hovering"), cells.raw(place, "edge_highest")
    estimate, n = mean_of(hovering)
    return Evidence(estimate, n, cells.diverged([place]) or _not_reached(hovering, highest))


def _not_reached(hovering: np.ndarray, highest: np.ndarray) -> str | None:
    """Say that most runs are not known to have come to the threshold, where nothing can hover; None if more did."""
    whole = ~np.isnan(hovering)
    runs, reached = int(whole.sum()), int((highest[whole] >= 0).sum())
    if not runs or 2 * reached > runs:
        return None
    seen = highest[whole & ~np.isnan(highest)]
    if not len(seen):
        return "Of no run is it known whether it reached the threshold."
    return (
        f"Only {reached} of {runs} runs reached the threshold, the highest at {seen.max():+.2f} log2 units, so "
        "there is no edge to hover at: a larger learning rate, a harder task or more steps would be needed."
    )


def _below(cells: Cells) -> Evidence:
    place = cells.edge(SMALL_STEP)
    estimate, n = mean_of(cells.raw(place, "edge_hovering"))
    return Evidence(estimate, n, cells.diverged([place]))


def _sharpening(probe: Sharpness, cells: Cells) -> Evidence:
    place = cells.flow(probe.width, probe.depth)
    estimate, n = mean_of(cells.raw(place, "sharpening"))
    return Evidence(estimate, n, cells.diverged([place]) or _held_by_the_step(probe, cells, [place]))


def _held_by_the_step(probe: Sharpness, cells: Cells, places: Sequence[Place]) -> str | None:
    """Say that flows came to the edge of their own step, where it ends their growth; None if none did."""
    threshold, found = 2 / probe.flow_lr, cells.over(places, "sharpening_sharpness")
    near = int((found > threshold * 2**-probe.edge_margin).sum())
    if not near:
        return None
    return (
        f"{near} of {int((~np.isnan(found)).sum())} flows came to the edge of their step, 2/η = {threshold:.4g}, less "
        f"{probe.edge_margin:g} log2 units, where the step ends the growth: a smaller flow_lr would be needed."
    )


def _wider(probe: Sharpness, cells: Cells) -> Evidence:
    places, sizes = cells.over_widths(), probe.widths_sorted
    growth = cells.over(places, "sharpening")
    estimate, n = mean_of(change(growth, sizes))
    bent = not_monotone(
        {"growth of sharpness, less of it": -growth}, sizes, probe.sharpening_margin, factor="width", unit=named.LOG2
    )
    return Evidence(
        estimate, n, cells.diverged(places) or _held_by_the_step(probe, cells, places) or bent, _by_size(growth, sizes)
    )


def _deeper(probe: Sharpness, cells: Cells) -> Evidence:
    places, sizes = cells.over_depths(), probe.depths_sorted
    growth = cells.over(places, "sharpening")
    estimate, n = mean_of(change(growth, sizes))
    bent = not_monotone(
        {"growth of sharpness": growth}, sizes, probe.sharpening_margin, factor="depth", unit=named.LOG2
    )
    return Evidence(
        estimate, n, cells.diverged(places) or _held_by_the_step(probe, cells, places) or bent, _by_size(growth, sizes)
    )


def _by_size(growth: np.ndarray, sizes: tuple[int, ...]) -> str:
    return (
        "Growth "
        + ", ".join(f"{plain_mean(column)} at {size}" for size, column in zip(sizes, growth.T, strict=True))
        + "."
    )


def _tau(cells: Cells, tau: np.ndarray) -> Evidence:
    """Return the evidence for a mean τ, its error as with one more block of none where that is the larger.

    τ of few runs is bounded and, near 1, skewed: where most blocks agree their own spread is seen too small. Where
    every block has none, as may be with few seeds of four batch sizes, the one more is of 1.
    """
    whole = tau[~np.isnan(tau)]
    estimate = None
    if len(whole) > 1:
        own, wider = mean_estimate(whole), mean_estimate(np.append(whole, 0.0 if whole.any() else 1.0))
        estimate = replace(own, standard_error=max(own.standard_error, wider.standard_error))
    return Evidence(estimate, len(whole), cells.diverged(cells.batches()), f"Mean τ {plain_mean(tau)}.")


def _rescaled(cells: Cells) -> Evidence:
    found = _tau(cells, cells.rescaled_tau(GAP))
    spread = plain_mean(np.std(cells.rescaled(), axis=2, ddof=1)).lstrip("+")
    before = plain_mean(np.std(np.log2(cells.over_batches(RAW)), axis=1, ddof=1)).lstrip("+")
    note = f"{found.note} Standard deviation of log2 sharpness over batch sizes {spread}, {before} before rescaling."
    return replace(found, note=note)


def _exact(cells: Cells, outcome: str) -> Evidence:
    estimate, n = mean_of(cells.over_batches(outcome).mean(axis=1))
    return Evidence(estimate, n, cells.diverged(cells.batches()))
