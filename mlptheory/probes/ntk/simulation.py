"""Tables with a planted truth: Gaussian, or with the noise of real runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.ntk import claims as named
from mlptheory.probes.ntk.columns import PARTS
from mlptheory.probes.ntk.scenarios import Truth
from mlptheory.stats import linear_trend_coefficients

if TYPE_CHECKING:
    from mlptheory.probes.ntk.design import NeuralTangentKernel
    from mlptheory.probes.scenario import Scenario

ACCURACY, CHANCE, ALIGNED = 90.0, 10.0, 0.5
"""Of the nets in percent, and the label alignment before training, on which effects are planted."""
COORDINATES = tuple(f"coordinate_{name}" for name in named.COORDINATE_LAYERS)
MEASURED = tuple(f"curve_measured_{part}" for part in PARTS)
LOGARITHMS = (
    "kernel_deviation",
    "kernel_change",
    "kernel_distance",
    "kernel_velocity_first",
    "kernel_velocity",
    *MEASURED,
    *(f"curve_predicted_{part}" for part in PARTS),
    *COORDINATES,
)
SHARES = ("net_accuracy", "test_accuracy", "initial_kernel_accuracy", "final_kernel_accuracy", "linearized_accuracy")
COSINES = ("label_alignment", "label_alignment_initial", "permuted_alignment", "permuted_alignment_initial")
OVER_WIDTHS = ("kernel_deviation", "kernel_change", *COORDINATES)


@dataclass(frozen=True)
class _Layout:
    """A design's labels as arrays, and where its rows are."""

    labels: dict[str, np.ndarray]
    role: np.ndarray
    parametrization: np.ndarray
    x: np.ndarray
    where: np.ndarray
    rich: np.ndarray
    infinite: np.ndarray


@lru_cache(maxsize=8)
def _layout(probe: NeuralTangentKernel) -> _Layout:
    rows = [dict(trial.labels) for trial in probe.trials()]
    labels = {
        name: np.array([row[name] for row in rows], dtype=object if isinstance(rows[0][name], str) else None)
        for name in rows[0]
    }
    x = np.log2(labels["width"].astype(float))
    return _Layout(
        labels=labels,
        role=labels["role"],
        parametrization=labels["parametrization"],
        x=x - x.min(),
        where=(x - x.min()) / np.ptp(x),
        rich=labels["output_scale"] == probe.output_scales[0],
        infinite=labels["role"] == "infinite",
    )


def truth_of(scenario: Scenario) -> Truth:
    """Return what a scenario plants."""
    return Truth(**dict(scenario.parameters))


def simulate(
    probe: NeuralTangentKernel, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a table as the trials might give it.

    Parameters
    ----------
    probe : NeuralTangentKernel
    scenario : Scenario
        One of `NeuralTangentKernel.scenarios`.
    rng : numpy Generator
    bank : DataFrame, optional
        Real runs, as `NeuralTangentKernel.bank_trials` describes them. A net's noise is then the departure of a real
        net's outcomes from the bank's means, all of one net together, each net once before any twice. Without it the
        noise is Gaussian, of the order of the claims' margins.

    Returns
    -------
    DataFrame
        With the columns that `judge` reads.
    """
    truth, layout = truth_of(scenario), _layout(probe)
    planted = _planted(probe, truth, layout)
    noise = _gaussian_noise(probe, rng, layout) if bank is None else _bank_noise(rng, bank, layout)
    diverged = (rng.random(len(layout.x)) < truth.diverged) & ~layout.infinite
    found: dict[str, np.ndarray] = {}
    for name, values in planted.items():
        fan = truth.fanning**layout.where if name in OVER_WIDTHS else 1.0
        noisy = values + fan * noise[name]
        raw = np.exp2(noisy) if name in LOGARITHMS else noisy / 100 if name in SHARES else noisy
        found[name] = np.where(diverged | layout.infinite, np.nan, raw)
    found |= {f"{name}_chance": np.full(len(layout.x), CHANCE / 100) for name in ("net", "final_kernel")}
    infinite = (ACCURACY + truth.off * probe.margin) / 100
    found["infinite_kernel_accuracy"] = np.where(layout.infinite, infinite, np.nan)
    return pd.DataFrame({**layout.labels, "diverged": diverged, **found})


def truths(probe: NeuralTangentKernel, scenario: Scenario) -> dict[str, float]:
    """Return every claim's estimand: what the scenario plants."""
    truth = truth_of(scenario)
    fast = truth.effect if truth.fast is None else truth.fast
    room = 1 - abs(truth.off) - abs(truth.opposed)
    bend = _bend_slope(probe) * truth.bend * probe.margin_exponent
    found = {
        named.FLUCTUATION: truth.off * probe.margin_exponent + bend,
        named.LAZIER: truth.effect * (0.5 - probe.margin_exponent) - bend,
        named.FAST: fast * probe.margin_ratio,
        named.ALIGNMENT: truth.effect * probe.margin_alignment,
        named.BETTER: truth.effect * probe.margin_better,
        named.MATCHES: truth.off * probe.margin,
        named.INFINITE: truth.off * probe.margin,
        named.LINEARIZED: truth.off * probe.margin,
        named.CURVE: room * probe.margin_curve,
        named.COORDINATES: room * probe.margin_coordinates,
        named.STANDARD: truth.effect * probe.margin_coordinates,
        named.SCALE: truth.effect * probe.margin_ratio,
        named.SHUFFLED: truth.off * probe.margin_leak,
        named.SHUFFLED_KERNEL: truth.off * probe.margin_leak,
    }
    return {claim.id: found[claim.id] for claim in probe.claims()}


def _bend_slope(probe: NeuralTangentKernel) -> float:
    """Return the slope that a fitted line sees in a half sine over the widths: none if they are evenly spaced."""
    x = np.log2(probe.widths_sorted)
    where = (x - x[0]) / np.ptp(x)
    return float(linear_trend_coefficients(x) @ np.sin(np.pi * where) / np.ptp(x))


def _planted(probe: NeuralTangentKernel, truth: Truth, layout: _Layout) -> dict[str, np.ndarray]:
    """Return the planted value of every column of every row: logarithms, percent and cosines."""
    rows = np.zeros(len(layout.x))
    fast = truth.effect if truth.fast is None else truth.fast
    bend = truth.bend * probe.margin_exponent * np.sin(np.pi * layout.where)
    shuffled = layout.role == "shuffled"
    net = rows + np.where(shuffled, CHANCE + truth.off * probe.margin_leak, ACCURACY)
    final = np.where(shuffled, net, net + truth.off * probe.margin)
    found = {
        "kernel_deviation": (-0.5 + truth.off * probe.margin_exponent) * layout.x + bend,
        "kernel_change": -truth.effect * (0.5 - probe.margin_exponent) * layout.x + bend,
        "kernel_distance": truth.effect * probe.margin_ratio * layout.rich - 3,
        "kernel_velocity_first": rows + fast * probe.margin_ratio - 5,
        "kernel_velocity": rows - 5,
        "label_alignment_initial": rows + ALIGNED,
        "label_alignment": rows + ALIGNED + truth.effect * probe.margin_alignment,
        "permuted_alignment_initial": rows + 0.1,
        "permuted_alignment": rows + 0.1,
        "net_accuracy": net,
        "test_accuracy": net,
        "final_kernel_accuracy": final,
        "initial_kernel_accuracy": final - truth.effect * probe.margin_better,
        "linearized_accuracy": net + truth.off * probe.margin,
    }
    signs = np.array([1.0, 0.0, -1.0])
    deviations = truth.off + truth.opposed * signs
    for part, deviation in zip(PARTS, deviations, strict=True):
        found[f"curve_predicted_{part}"] = rows + deviation * probe.margin_curve
        found[f"curve_measured_{part}"] = rows
    is_mup = layout.parametrization == "mup"
    for name, deviation in zip(COORDINATES, deviations, strict=True):
        slope = np.where(is_mup, deviation, truth.effect) * probe.margin_coordinates
        found[name] = slope * layout.x
    return found


def _gaussian_noise(probe: NeuralTangentKernel, rng: np.random.Generator, layout: _Layout) -> dict[str, np.ndarray]:
    """Return noise whose spread is of the order of the margins; what is of one net shares that net's."""

    def draw(spread: float) -> np.ndarray:
        return rng.normal(0, spread, len(layout.x))

    net, final = draw(probe.margin / 2), draw(probe.margin / 2)
    found = {name: draw(0.0) for name in (*LOGARITHMS, *SHARES, *COSINES)}
    found |= {name: draw(1.5 * probe.margin_exponent) for name in ("kernel_deviation", "kernel_change")}
    found |= {name: draw(0.6 * probe.margin_coordinates) for name in COORDINATES}
    found |= {name: draw(probe.margin_curve / 3) for name in MEASURED}
    found |= {name: draw(probe.margin_ratio / 2) for name in ("kernel_distance", "kernel_velocity")}
    found["kernel_velocity_first"] = draw(probe.margin_ratio / 2)
    found["label_alignment"] = draw(probe.margin_alignment)
    found |= {name: draw(0.2 * probe.margin_alignment) for name in COSINES if name != "label_alignment"}
    found["net_accuracy"] = found["test_accuracy"] = net
    found["final_kernel_accuracy"] = net + final
    found["initial_kernel_accuracy"] = net + final + draw(probe.margin_better)
    found["linearized_accuracy"] = net + draw(probe.margin / 2)
    return found


def _bank_noise(rng: np.random.Generator, bank: pd.DataFrame, layout: _Layout) -> dict[str, np.ndarray]:
    """Return departures of real nets from the bank's means, one net's together."""
    runs, rows = len(bank), len(layout.x)
    drawn = np.concatenate([rng.permutation(runs) for _ in range(-(-rows // runs))])[:rows]
    found = {}
    for name in (*LOGARITHMS, *SHARES, *COSINES):
        values = bank[name].to_numpy(dtype=float)
        values = np.log2(values) if name in LOGARITHMS else 100 * values if name in SHARES else values
        found[name] = (values - values.mean())[drawn]
    return found
