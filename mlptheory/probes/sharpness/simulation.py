"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.sharpness import claims as named
from mlptheory.probes.sharpness.cells import ADAPTIVE, GAP, RAW
from mlptheory.probes.sharpness.columns import RESCALINGS
from mlptheory.probes.sharpness.design import ADAM, GD, MOMENTUM, SMALL_STEP
from mlptheory.probes.sharpness.scenarios import Truth
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.scenario import Scenario
    from mlptheory.probes.sharpness.design import Sharpness

RESCALED_SPREAD = 5.0
EXACT_SPREAD = 0.2
LOG_SPREADS = {RAW: 0.4, ADAPTIVE: 0.4, GAP: 0.1}
LEVELS = {RAW: 3.0, ADAPTIVE: -0.8, GAP: -3.2}
"""log2 of what nets of the batch part come to, and its standard deviation; Kendall's τ knows their order alone."""


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, and where its rows are."""

    labels: dict[str, np.ndarray]
    block: np.ndarray
    edges: dict[str, np.ndarray]
    flow: np.ndarray
    batch: np.ndarray
    wide: np.ndarray
    deep: np.ndarray


@lru_cache(maxsize=8)
def _layout(probe: Sharpness) -> _Layout:
    rows = [dict(trial.labels) for trial in probe.trials()]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    blocks = {block: place for place, block in enumerate(probe.seed_list)}
    return _Layout(
        labels=labels,
        block=np.array([blocks[row["block"]] for row in rows]),
        edges={arm: labels["arm"] == arm for arm in (GD, MOMENTUM, ADAM, SMALL_STEP)},
        flow=labels["role"] == "flow",
        batch=labels["role"] == "batch",
        wide=_where(labels["width"], probe.widths_sorted),
        deep=_where(labels["depth"], probe.depths_sorted),
    )


def _where(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return where each value is between the smallest size, 0, and the largest, 1, by its logarithm."""
    return np.log2(values / sizes[0]) / np.log2(sizes[-1] / sizes[0])


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: Sharpness, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : Sharpness
    scenario : Scenario
        One of `Sharpness.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `Sharpness.bank_trials` describes them. The noise of edge and flow is then the departure of a
        real run of that part from the bank's mean, each run once before any twice, and the batch part's values are
        those of real runs, put into an order of the planted τ. Without it the noise is Gaussian: a run's own SD is
        the margin, and a block's runs share a shift of the same SD.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    diverged = rng.random(len(layout.block)) < truth.diverged
    columns = {
        **_edges(probe, truth, layout, rng, bank),
        "sharpening": _flows(probe, truth, layout, rng, bank),
        **_batches(probe, truth, layout, rng, bank),
    }
    found = {name: np.where(diverged, np.nan, values) for name, values in columns.items()}
    return pd.DataFrame({**layout.labels, "diverged": diverged, **found})


def truths(probe: Sharpness, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants."""
    truth = truth_of(scenario)
    sines = {
        name: float(linear_trend_coefficients(np.log2(sizes)) @ np.sin(np.pi * _where(np.array(sizes), sizes)))
        for name, sizes in (("wide", probe.widths_sorted), ("deep", probe.depths_sorted))
    }
    edge, growth, tau = probe.edge_margin, probe.sharpening_margin, probe.tau_margin
    center = truth.hump * _humps(probe)
    found = {
        named.EDGE_GD: edge * truth.gd,
        named.EDGE_MOMENTUM: edge * truth.momentum,
        named.EDGE_ADAM: edge * truth.adam,
        named.BELOW: -edge * truth.below,
        named.SHARPENING: growth * (truth.sharpening + center),
        named.WIDER: growth * (sines["wide"] * truth.hump - truth.wider),
        named.DEEPER: growth * (sines["deep"] * truth.hump + truth.deeper),
        named.PREDICTS: _tau(tau * truth.predicts),
        named.ADAPTIVE_PREDICTS: _tau(tau * truth.adaptive),
        named.RESCALED: _tau(tau * truth.rescaled),
        named.SAME_FUNCTION: -named.EXACT_MARGIN * truth.exact,
        named.SAME_ADAPTIVE: -named.EXACT_MARGIN * truth.exact,
    }
    return {claim.id: found[claim.id] for claim in probe.claims()}


def _tau(tau: float) -> float:
    """Return a τ that exists."""
    return float(np.clip(tau, -0.95, 0.95))


def _humps(probe: Sharpness) -> float:
    """Return the half sines at the center, by width and by depth."""
    return float(sum(np.sin(np.pi * where) for where in _center(probe)))


def _center(probe: Sharpness) -> tuple[float, float]:
    """Return where the center is between the smallest and the largest width, and depth."""
    wide = _where(np.array([probe.width]), probe.widths_sorted)
    deep = _where(np.array([probe.depth]), probe.depths_sorted)
    return float(wide[0]), float(deep[0])


def _edges(
    probe: Sharpness, truth: Truth, layout: _Layout, rng: np.random.Generator, bank: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    planted = {GD: truth.gd, MOMENTUM: truth.momentum, ADAM: truth.adam, SMALL_STEP: -truth.below}
    level = probe.edge_margin * sum(planted[arm] * rows for arm, rows in layout.edges.items())
    hovering = level + _noise(probe.edge_margin, layout, rng, bank, "edge", "edge_hovering")
    # Whether a run ever reached the threshold is left open by where it hovers.
    reached = rng.random(len(hovering)) < truth.reached
    highest = np.where(reached, np.maximum(hovering, 0) + 0.1, np.minimum(hovering, 0) - 0.1)
    in_part = layout.labels["role"] == "edge"
    return {
        "edge_hovering": np.where(in_part, hovering, np.nan),
        "edge_highest": np.where(in_part, highest, np.nan),
    }


def _flows(
    probe: Sharpness, truth: Truth, layout: _Layout, rng: np.random.Generator, bank: pd.DataFrame | None
) -> np.ndarray:
    wide, deep = layout.wide, layout.deep
    own = (
        _where(np.array([probe.width]), probe.widths_sorted)[0],
        _where(np.array([probe.depth]), probe.depths_sorted)[0],
    )
    level = truth.sharpening - truth.wider * (wide - own[0]) + truth.deeper * (deep - own[1])
    level = level + truth.hump * (np.sin(np.pi * wide) + np.sin(np.pi * deep))
    fan = truth.fanning ** np.maximum(wide, deep)
    noise = _noise(probe.sharpening_margin, layout, rng, bank, "flow", "sharpening")
    return np.where(layout.flow, probe.sharpening_margin * level + fan * noise, np.nan)


def _noise(
    margin: float,
    layout: _Layout,
    rng: np.random.Generator,
    bank: pd.DataFrame | None,
    role: str,
    outcome: str,
) -> np.ndarray:
    """Return every row's departure from what is planted."""
    rows = len(layout.block)
    if bank is not None:
        values = bank.loc[bank["role"] == role, outcome].to_numpy(dtype=float)
        values = values - values.mean()
        return np.concatenate([rng.permutation(values) for _ in range(-(-rows // len(values)))])[:rows]
    return rng.normal(0, margin, int(layout.block.max()) + 1)[layout.block] + rng.normal(0, margin, rows)


def _batches(
    probe: Sharpness, truth: Truth, layout: _Layout, rng: np.random.Generator, bank: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    """Return the batch part's columns: values in an order whose expected τ with the gap's is as planted.

    Of Gaussian pairs with correlation ρ, E τ = 2/π arcsin ρ; another law's values keep it where they keep the order.
    """
    margin, rows = probe.tau_margin, int(layout.batch.sum())
    gap = rng.normal(size=rows)

    def beside(tau: float) -> np.ndarray:
        rho = np.sin(np.pi / 2 * _tau(margin * tau))
        return rho * gap + np.sqrt(1 - rho**2) * rng.normal(size=rows)

    orders = {GAP: gap, RAW: beside(truth.predicts), ADAPTIVE: beside(truth.adaptive)}
    logs = {name: _in_order(name, order, rng, bank) for name, order in orders.items()}
    found = {name: np.exp2(values) for name, values in logs.items()}
    for draw in range(RESCALINGS):
        found[f"rescaling_{draw}"] = RESCALED_SPREAD * beside(truth.rescaled) - logs[RAW]
    for name in ("function_change", "adaptive_change"):
        found[name] = -named.EXACT_MARGIN * truth.exact + rng.normal(0, EXACT_SPREAD, rows)
    return {name: _into(layout.batch, values) for name, values in found.items()}


def _in_order(name: str, order: np.ndarray, rng: np.random.Generator, bank: pd.DataFrame | None) -> np.ndarray:
    """Return log2 of values whose order is given: Gaussian ones, or as many of real nets."""
    if bank is None:
        return LEVELS[name] + LOG_SPREADS[name] * order
    real = np.log2(bank.loc[bank["role"] == "batch", name].to_numpy(dtype=float))
    drawn = np.sort(rng.choice(real, len(order), replace=len(order) > len(real)))
    found = np.empty(len(order))
    found[np.argsort(order)] = drawn
    return found


def _into(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values in the rows of their part, NaN elsewhere."""
    found = np.full(len(where), np.nan)
    found[where] = values
    return found
