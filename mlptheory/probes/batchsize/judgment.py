"""The judgment: from a table of test accuracies to the interval behind each claim, and the verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlptheory.probes.batchsize.design import CONTROL, EVERY_LENGTH, MAIN
from mlptheory.stats import Interval, Verdict, bonferroni_level, decide, linear_trend_coefficients, mean_interval

if TYPE_CHECKING:
    from mlptheory.probes.batchsize.design import BatchSize


def judge(probe: BatchSize, table: pd.DataFrame) -> tuple[Verdict, ...]:
    """Return the verdicts; a pure function of the table."""
    verdicts = []
    for claim in probe.claims():
        role = "control" if claim.id == CONTROL else "arm"
        forced = _divergence(table[table["role"] == role])
        label, interval, blocks = estimate(probe, claim.id, table)
        if claim.id == MAIN:
            forced = forced or _not_monotone(probe, table, interval)
        verdict = decide(claim, interval, blocks, forced_reason=forced)
        verdicts.append(_annotated(verdict, label if claim.id == EVERY_LENGTH else _best(probe, claim.id, table)))
    return tuple(verdicts)


def estimate(probe: BatchSize, claim: str, table: pd.DataFrame) -> tuple[str, Interval | None, int]:
    """Return where a claim's interval comes from, the interval, and the blocks behind it."""
    if claim == CONTROL:
        of_labels = list(changes(probe, table, "control", min(probe.epochs)).values())
        return "", mean_interval(of_labels) if len(of_labels) > 1 else None, len(of_labels)
    by_length = {epochs: changes(probe, table, "arm", epochs) for epochs in probe.epochs}
    if claim == MAIN:
        # A block counts where it has every length: the mean over lengths is taken within it.
        whole = [block for block in probe.seed_list if all(block in of_one for of_one in by_length.values())]
        means = [sum(by_length[epochs][block] for epochs in probe.epochs) / len(probe.epochs) for block in whole]
        return "", mean_interval(means) if len(means) > 1 else None, len(means)
    intervals = _simultaneous(by_length)
    if intervals is None:
        return "", None, min(len(of_one) for of_one in by_length.values())
    # All lengths must lie beyond the margin, and one that falls short refutes: the binding length decides.
    short = {epochs: interval for epochs, interval in intervals.items() if interval.high < probe.margin}
    binding = (
        min(short, key=lambda epochs: short[epochs].high)
        if short
        else min(intervals, key=lambda epochs: intervals[epochs].low)
    )
    return f"The binding length is {binding} epochs.", intervals[binding], len(by_length[binding])


def _simultaneous(by_length: dict[int, dict[int, float]]) -> dict[int, Interval] | None:
    if min(len(of_one) for of_one in by_length.values()) < 2:
        return None
    level = bonferroni_level(len(by_length))
    return {epochs: mean_interval(list(of_one.values()), level) for epochs, of_one in by_length.items()}


def changes(probe: BatchSize, table: pd.DataFrame, role: str, epochs: int) -> dict[int, float]:
    """Return each whole block's fitted change in test accuracy, in percentage points, by block."""
    cells = cells_of(probe, table, role, epochs)
    sizes = sorted(probe.batch_sizes)
    coefficients = linear_trend_coefficients(np.log2(sizes))
    return {
        int(block): float(coefficients @ cells.loc[block, sizes].to_numpy(dtype=float))
        for block in cells.index
        if cells.loc[block, sizes].notna().all()
    }


def cells_of(probe: BatchSize, table: pd.DataFrame, role: str, epochs: int) -> pd.DataFrame:
    """Return test accuracy in percent, blocks by batch sizes; NaN where a run has none."""
    rows = table[(table["role"] == role) & (table["epochs"] == epochs)]
    cells = rows.pivot(index="block", columns="batch_size", values="test_accuracy").astype(float) * 100
    return cells.reindex(columns=sorted(probe.batch_sizes))


def _over_lengths(probe: BatchSize, table: pd.DataFrame) -> pd.DataFrame:
    return sum(cells_of(probe, table, "arm", epochs) for epochs in probe.epochs) / len(probe.epochs)


def _best(probe: BatchSize, claim: str, table: pd.DataFrame) -> str:
    if claim != MAIN:
        return ""
    means = _over_lengths(probe, table).mean()
    return "" if means.isna().all() else f"Highest mean accuracy at batch size {means.idxmax()}."


def _not_monotone(probe: BatchSize, table: pd.DataFrame, interval: Interval | None) -> str | None:
    """Say why a rising line does not support the claim: a smaller batch beats the largest by more than δ.

    The level is Bonferroni's over the smaller batches, so that a line that truly rises is stopped in at most
    2.5 % of studies.
    """
    if interval is None or interval.low <= probe.margin:
        return None
    cells = _over_lengths(probe, table).dropna()
    largest, smaller = max(probe.batch_sizes), sorted(probe.batch_sizes)[:-1]
    level = bonferroni_level(len(smaller))
    leads = {size: mean_interval((cells[size] - cells[largest]).to_numpy(), level) for size in smaller}
    beating = [size for size in smaller if leads[size].low > probe.margin]
    if beating:
        best = max(beating, key=lambda size: leads[size].estimate)
        lead = leads[best]
        return (
            f"Not monotone: batch size {best} beats the largest by {lead.estimate:.3g} percentage points "
            f"[{lead.low:.3g}, {lead.high:.3g}], so a line does not describe the effect."
        )
    return None


def effects(probe: BatchSize, table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy of every arm and the change of every length, with 95 % t intervals."""
    rows = []
    for epochs in probe.epochs:
        cells = cells_of(probe, table, "arm", epochs)
        groups = {f"test accuracy at batch size {size} (%)": cells[size].dropna() for size in cells.columns}
        groups["change, smallest to largest batch (points)"] = list(changes(probe, table, "arm", epochs).values())
        for quantity, values in groups.items():
            interval = mean_interval(values) if len(values) > 1 else None
            rows.append(
                {
                    "epochs": epochs,
                    "quantity": quantity,
                    "mean": float(sum(values) / len(values)) if len(values) else math.nan,
                    "low": interval.low if interval else math.nan,
                    "high": interval.high if interval else math.nan,
                    "n": len(values),
                }
            )
    return pd.DataFrame(rows)


def _divergence(rows: pd.DataFrame) -> str | None:
    diverged = rows[rows["diverged"].astype(bool)]
    if diverged.empty:
        return None
    where = ", ".join(sorted({str(size) for size in diverged["batch_size"]}, key=int))
    return f"{len(diverged)} of {len(rows)} runs diverged (batch size {where}), so means over the rest are selected."


def _annotated(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, reason=f"{verdict.reason} {note}") if note else verdict
