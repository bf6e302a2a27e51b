"""What stands behind a claim, and from there to the verdicts of all claims together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlptheory.stats import (
    AnyEstimate,
    Claim,
    Verdict,
    bonferroni_level,
    decide_together,
    linear_trend_coefficients,
    mean_estimate,
    mean_interval,
    smallest_of,
)


@dataclass(frozen=True)
class Evidence:
    """What stands behind one claim.

    Attributes
    ----------
    estimate : Estimate, SmallestEstimate or None
        None where fewer than two blocks are whole.
    n : int
        Whole blocks.
    forced : str or None
        Why the verdict is inconclusive whatever the interval.
    note : str
        What a reader should know beside it.
    """

    estimate: AnyEstimate | None
    n: int
    forced: str | None = None
    note: str = ""


def judge_together(claims: Sequence[Claim], found: Sequence[Evidence]) -> tuple[Verdict, ...]:
    """Return the verdicts on all claims of a design, each with the note of its evidence."""
    verdicts = decide_together(
        claims,
        [evidence.estimate for evidence in found],
        [evidence.n for evidence in found],
        [evidence.forced for evidence in found],
    )
    return tuple(
        replace(verdict, reason=f"{verdict.reason} {evidence.note}") if evidence.note else verdict
        for verdict, evidence in zip(verdicts, found, strict=True)
    )


def mean_of(values: np.ndarray) -> tuple[AnyEstimate | None, int]:
    """Return the estimate of a mean over blocks, and how many of them are whole; NaN marks one that is not."""
    whole = values[~np.isnan(values)]
    return (mean_estimate(whole) if len(whole) > 1 else None), len(whole)


def smallest_mean_of(parts: Sequence[np.ndarray]) -> tuple[AnyEstimate | None, int]:
    """Return the estimate of the smallest of several means over blocks, and the fewest whole blocks of any."""
    estimates = [mean_of(part) for part in parts]
    n = min(count for _, count in estimates)
    return (smallest_of([estimate for estimate, _ in estimates]) if n > 1 else None), n


def runs_diverged(diverged: np.ndarray) -> str | None:
    """Say how many of the runs behind a claim diverged; None if none did.

    Examples
    --------
    >>> runs_diverged(np.array([True, False, False]))
    '1 of 3 runs diverged, so means over the rest are selected.'
    """
    bad = int(diverged.sum())
    return f"{bad} of {len(diverged)} runs diverged, so means over the rest are selected." if bad else None


def blocks_lacking(whole: int, blocks: int) -> str | None:
    """Say that an outcome is missing in some blocks whose runs did not diverge; None if it is in all or in none.

    Examples
    --------
    >>> blocks_lacking(3, 4)
    '1 of 4 blocks lack an outcome, so the rest are selected.'
    """
    if whole in (0, blocks):
        return None
    return f"{blocks - whole} of {blocks} blocks lack an outcome, so the rest are selected."


def plain_mean(values: np.ndarray) -> str:
    """Return a mean for a sentence, of what is there."""
    return "unknown" if np.isnan(values).all() else f"{np.nanmean(values):+.2f}"


def not_monotone(
    accuracies: Mapping[str, np.ndarray],
    sizes: Sequence[int],
    margin: float,
    *,
    factor: str = "batch size",
    unit: str = "percentage points",
) -> str | None:
    """Say why a rising line does not support a claim: a smaller size beats the largest by more than δ.

    The level is Bonferroni's over all that is compared, so that a response that truly rises is stopped in at most 2.5 %
    of studies. A claim that the line already contradicts needs no such guard.

    Parameters
    ----------
    accuracies : mapping of str to ndarray of shape (blocks, sizes)
        Or what else is better where it is greater, in `unit`; by where that is, in words.
    sizes : sequence of int
        Smallest first.
    margin : float
        δ, in `unit`.
    factor, unit : str
        What the sizes are of, and the unit, for the sentence.
    """
    coefficients = linear_trend_coefficients(np.log2(sizes))
    level = bonferroni_level((len(sizes) - 1) * len(accuracies))
    beating = []
    for where, accuracy in accuracies.items():
        changes = accuracy @ coefficients
        if np.isnan(changes).all() or np.nanmean(changes) <= margin:
            continue
        for index, size in enumerate(sizes[:-1]):
            leads = accuracy[:, index] - accuracy[:, -1]
            leads = leads[~np.isnan(leads)]
            lead = mean_interval(leads, level) if len(leads) > 1 else None
            if lead is not None and lead.low > margin:
                beating.append((lead.estimate, where, size, lead))
    if not beating:
        return None
    _, where, size, lead = max(beating, key=lambda each: each[0])
    return (
        f"Not monotone: {where}, {factor} {size} beats the largest by {lead.estimate:.3g} {unit} "
        f"[{lead.low:.3g}, {lead.high:.3g}], so a line does not describe the effect."
    )
