"""Two arms compared where they are equally accurate, and what examples augmentation is worth: both by interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlptheory.stats import mean_interval

SHORTEST_RISE = 1e-9


@dataclass(frozen=True)
class Matched:
    """An outcome's difference between two arms at one accuracy.

    Attributes
    ----------
    accuracy : float
        Where they are compared: the middle of the accuracies that both lines of means reach.
    differences : ndarray of shape (blocks,)
        One number a block, whose mean is the difference between the lines through the sizes' means.
    """

    accuracy: float
    differences: np.ndarray


def matched_difference(
    accuracy: tuple[np.ndarray, np.ndarray], outcome: tuple[np.ndarray, np.ndarray]
) -> Matched | str:
    r"""Compare two arms' outcomes at an accuracy that both reach, or say why that cannot be done.

    The means over blocks of accuracy and outcome make a line through the sizes for each arm. With weights
    :math:`w` on two neighboring sizes at which an arm's line has the accuracy :math:`a^*`, and the line's slope
    :math:`s` there, a block's number is

    .. math:: \sum_i w_i y_{b,i} - s \Big(\sum_i w_i a_{b,i} - a^*\Big),

    the delta method's: its mean over blocks is the line's outcome at :math:`a^*` whatever the slope, and its spread
    has the noise of the accuracy that was matched in it. Interpolating every block's own line instead would divide by
    that block's noise.

    Parameters
    ----------
    accuracy, outcome : pairs of ndarray of shape (blocks, sizes)
        Of the first and the second arm, sizes in ascending order; the first's outcome less the second's is returned.

    Examples
    --------
    >>> found = matched_difference(
    ...     (np.array([[0.2, 0.6]] * 2), np.array([[0.4, 0.8]] * 2)), (np.array([[1.0, 2.0]] * 2), np.zeros((2, 2)))
    ... )
    >>> round(found.accuracy, 3), found.differences.round(3).tolist()
    (0.5, [1.75, 1.75])
    """
    whole = ~np.isnan(np.concatenate([*accuracy, *outcome], axis=1)).any(axis=1)
    accuracy = tuple(each[whole] for each in accuracy)
    outcome = tuple(each[whole] for each in outcome)
    if whole.sum() < 2:
        return "Fewer than two blocks are whole."
    lines = [each.mean(axis=0) for each in accuracy]
    if any((np.diff(line) <= SHORTEST_RISE).any() for line in lines):
        return "Mean accuracy does not rise with every size, so that nothing is matched."
    low, high = max(line[0] for line in lines), min(line[-1] for line in lines)
    if low >= high:
        return "No accuracy is reached by both arms, so that nothing is matched."
    at = (low + high) / 2
    first, second = (
        _at_accuracy(each, line, values, at) for each, line, values in zip(accuracy, lines, outcome, strict=True)
    )
    found = np.full(len(whole), np.nan)
    found[whole] = first - second
    return Matched(float(at), found)


def _at_accuracy(accuracy: np.ndarray, line: np.ndarray, outcome: np.ndarray, at: float) -> np.ndarray:
    left = min(int(np.searchsorted(line, at, side="right")) - 1, len(line) - 2)
    width = line[left + 1] - line[left]
    weights = np.array([line[left + 1] - at, at - line[left]]) / width
    both = slice(left, left + 2)
    slope = (outcome[:, left + 1] - outcome[:, left]).mean() / width
    return outcome[:, both] @ weights - slope * (accuracy[:, both] @ weights - at)


@dataclass(frozen=True)
class Worth:
    """How many examples more the reference needs to be as accurate.

    Attributes
    ----------
    value : float
        Where the line through the reference's means has the arm's mean accuracy, less n; NaN where it never has.
    low, high : float
        Of the 95 % set; -inf or inf where the reference ends before the set does.
    """

    value: float
    low: float
    high: float


def worth_in_examples(
    reference: np.ndarray, arm: np.ndarray, sizes: tuple[int, ...], n: int, points: int = 400
) -> Worth:
    r"""Return :math:`v(n) = f_\mathrm{ref}^{-1}(f_\mathrm{aug}(n)) - n` with its 95 % set by inversion of t tests.

    The reference between two sizes is linear in the logarithm of the size, block by block. The set has every size m at
    which a paired t test does not tell the arm's accuracy at n from the reference's at m, at 5 %. Source: the exchange
    rate of Geiping et al. 2023; where the accuracy is beyond the reference's last size there is a lower bound only.

    Parameters
    ----------
    reference : ndarray of shape (blocks, sizes)
        Accuracy without augmentation.
    arm : ndarray of shape (blocks,)
        Accuracy with it, at n.
    sizes : tuple of int
        In ascending order.
    n : int
    points : int
        Of the grid over the logarithm of the size.

    Examples
    --------
    >>> reference = np.array([[0.5, 0.7], [0.52, 0.68], [0.48, 0.72]])
    >>> worth = worth_in_examples(reference, np.array([0.61, 0.6, 0.59]), (100, 400), n=100)
    >>> round(worth.value), worth.low < worth.value < worth.high
    (100, True)
    """
    whole = ~np.isnan(np.column_stack([reference, arm])).any(axis=1)
    if whole.sum() < 2:
        return Worth(math.nan, math.nan, math.nan)
    reference, arm = reference[whole], arm[whole]
    grid = np.linspace(math.log(sizes[0]), math.log(sizes[-1]), points)
    curves = np.array([np.interp(grid, np.log(sizes), row) for row in reference])
    leads = arm[:, None] - curves
    intervals = [mean_interval(column) for column in leads.T]
    kept = np.array([interval.low <= 0 <= interval.high for interval in intervals])
    ahead = np.array([interval.low > 0 for interval in intervals])
    low, high = _ends(np.exp(grid), kept, ahead)
    return Worth(_crossing(leads.mean(axis=0), grid) - n, low - n, high - n)


def _ends(sizes: np.ndarray, kept: np.ndarray, ahead: np.ndarray) -> tuple[float, float]:
    """Return the ends of the set; the hull of it where a curve that falls makes it several intervals."""
    # Steps of the grid that touch the set: an end is kept, or the lead changes its sign in between.
    touched = np.flatnonzero(kept[:-1] | kept[1:] | (ahead[:-1] != ahead[1:]))
    if not len(touched):
        return (float(sizes[-1]), math.inf) if ahead[0] else (-math.inf, float(sizes[0]))
    low = -math.inf if kept[0] else float(sizes[touched[0]])
    return low, math.inf if kept[-1] else float(sizes[touched[-1] + 1])


def _crossing(lead: np.ndarray, grid: np.ndarray) -> float:
    """Return the size at which the mean lead passes 0 for the last time; NaN if it never does."""
    passing = np.flatnonzero((lead[:-1] >= 0) & (lead[1:] < 0))
    if not len(passing):
        return float(np.exp(grid[-1])) if lead[-1] == 0 else math.nan
    left = int(passing[-1])
    share = lead[left] / (lead[left] - lead[left + 1])
    return float(np.exp(grid[left] + share * (grid[left + 1] - grid[left])))
