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
        note, interval, blocks = estimate(probe, claim.id, table)
        forced = _divergence(table[table["role"] == role]) or _not_monotone(probe, claim.id, table, interval)
        verdict = decide(claim, interval, blocks, forced_reason=forced)
        if claim.id == EVERY_LENGTH:
            # The smallest of several changes has no t distribution, so no p-value of one belongs to it.
            verdict = replace(verdict, p=None)
        verdicts.append(replace(verdict, reason=f"{verdict.reason} {note}") if note else verdict)
    return tuple(verdicts)


def estimate(probe: BatchSize, claim: str, table: pd.DataFrame) -> tuple[str, Interval | None, int]:
    """Return a note on a claim's interval, the interval, and the blocks behind it."""
    if claim == CONTROL:
        of_labels = list(changes(probe, table, "control", min(probe.epochs)).values())
        return "", mean_interval(of_labels) if len(of_labels) > 1 else None, len(of_labels)
    by_length = {epochs: changes(probe, table, "arm", epochs) for epochs in probe.epochs}
    if claim == MAIN:
        # A block counts where it has every length: the mean over lengths is taken within it.
        whole = [block for block in probe.seed_list if all(block in of_one for of_one in by_length.values())]
        means = [sum(by_length[epochs][block] for epochs in probe.epochs) / len(probe.epochs) for block in whole]
        return _best(probe, table, by_length), mean_interval(means) if len(means) > 1 else None, len(means)
    intervals = _simultaneous(by_length)
    blocks = min(len(of_one) for of_one in by_length.values())
    if intervals is None:
        return "", None, blocks
    # The smallest change lies between the smallest of the lower ends and the smallest of the upper ends.
    smallest = min(intervals, key=lambda epochs: intervals[epochs].estimate)
    low, high = (min(getattr(interval, end) for interval in intervals.values()) for end in ("low", "high"))
    where = f"The smallest change is that at {smallest} {'epoch' if smallest == 1 else 'epochs'}."
    return where, replace(intervals[smallest], low=low, high=high), blocks


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


def _best(probe: BatchSize, table: pd.DataFrame, by_length: dict[int, dict[int, float]]) -> str:
    """Say what a mean over lengths hides: the change at each, and where the best batch size lies."""
    means = _over_lengths(probe, table).mean()
    if means.isna().all():
        return ""
    best = f"Highest mean accuracy at batch size {means.idxmax()}."
    changes_seen = [
        f"{sum(of_one.values()) / len(of_one):+.2f} at {epochs}" for epochs, of_one in by_length.items() if of_one
    ]
    return best if len(changes_seen) < 2 else f"{best} Change by length in epochs: {', '.join(changes_seen)}."


def _not_monotone(probe: BatchSize, claim: str, table: pd.DataFrame, interval: Interval | None) -> str | None:
    """Say why a rising line does not support the claim: a smaller batch beats the largest by more than δ.

    Looked for in the mean over lengths or, for the claim about every length, at each. The level is Bonferroni's over
    all that is compared, so that a response that truly rises is stopped in at most 2.5 % of studies.
    """
    if claim == CONTROL or interval is None or interval.low <= probe.margin:
        return None
    cells_where = {"over all lengths": _over_lengths(probe, table)}
    if claim == EVERY_LENGTH:
        cells_where = {f"at length {epochs}": cells_of(probe, table, "arm", epochs) for epochs in probe.epochs}
    largest, smaller = max(probe.batch_sizes), sorted(probe.batch_sizes)[:-1]
    level = bonferroni_level(len(smaller) * len(cells_where))
    leads = {
        (where, size): mean_interval((cells[size] - cells[largest]).dropna().to_numpy(), level)
        for where, cells in cells_where.items()
        for size in smaller
    }
    beating = [key for key, lead in leads.items() if lead.low > probe.margin]
    if not beating:
        return None
    where, size = max(beating, key=lambda key: leads[key].estimate)
    lead = leads[where, size]
    return (
        f"Not monotone: {where}, batch size {size} beats the largest by {lead.estimate:.3g} percentage points "
        f"[{lead.low:.3g}, {lead.high:.3g}], so a line does not describe the effect."
    )


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
