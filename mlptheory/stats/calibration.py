"""How often verdicts are wrong where the truth is planted: counts over many tables, with exact intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlptheory.base import InputError, unknown_name
from mlptheory.stats import _checks
from mlptheory.stats.claims import Claim
from mlptheory.stats.proportions import Proportion, proportion_interval
from mlptheory.stats.verdicts import VERDICTS

# A truth this close to the margin, relative to it, was planted there and is off by rounding.
_AT_THE_MARGIN = 1e-9


class Outcome(NamedTuple):
    """What one table gave a claim, beside the truth.

    Attributes
    ----------
    verdict : {"supported", "contradicted", "inconclusive"}
    low, high, level : float or None
        The shown interval, None where there was none.
    truth : float
        The estimand in the world that the table comes from; NaN where there is none.
    """

    verdict: str
    low: float | None
    high: float | None
    level: float | None
    truth: float


@dataclass(frozen=True, kw_only=True)
class ClaimCalibration:
    """The verdicts on one claim over many tables of one kind of world.

    Attributes
    ----------
    claim : str
        Its id.
    truth : float or None
        Mean of the estimand over tables; None where it is not defined.
    tables, supported, contradicted, inconclusive : int
    false_supported, false_contradicted : Proportion or None
        Share of tables in which the word was given and is false; None where it is true in all of them.
    coverage : Proportion or None
        Share of shown intervals that hold the estimand.
    mean_width, mean_level : float or None
        Of the shown intervals; the width in the claim's unit.
    zero_rejected : Proportion or None
        Share of shown intervals without 0, where the truth is 0 and all have one level: the A/A test.
    level : float
        The judgment's nominal level.
    """

    claim: str
    truth: float | None
    tables: int
    supported: int
    contradicted: int
    inconclusive: int
    false_supported: Proportion | None
    false_contradicted: Proportion | None
    coverage: Proportion | None
    mean_width: float | None
    mean_level: float | None
    zero_rejected: Proportion | None
    level: float

    @property
    def holds(self) -> bool:
        """Whether no error rate is shown to lie above 1 − level, and the coverage not to lie below `level`."""
        rates = (self.false_supported, self.false_contradicted, self.zero_rejected)
        return all(rate is None or reaches_down_to(rate, 1 - self.level) for rate in rates) and (
            self.coverage is None or self.coverage.high >= self.level
        )


def reaches_down_to(rate: Proportion, nominal: float) -> bool:
    """Return whether a rate's interval leaves it possible that the rate is the nominal one or less."""
    return rate.low <= nominal * (1 + 1e-9)


def false_verdicts(claim: Claim, truth: float) -> frozenset[str]:
    """Return the words that are false of a claim if its estimand is `truth`.

    "greater": *supported* is false at or below +δ, *contradicted* at or above it; "less" mirrors. "equivalent":
    *supported* is false at or beyond ±δ, *contradicted* at or inside it. At the margin itself both are. Where there
    is no estimand (NaN), nothing can be said of it, so that both are.

    Parameters
    ----------
    claim : Claim
    truth : float
        In the claim's unit.

    Returns
    -------
    frozenset of str

    Examples
    --------
    >>> claim = Claim(id="a", statement="A rises.", direction="greater", margin=0.5, source="-", estimand="change",
    ...               unit="points", test="t", held_fixed=(), scope="here")
    >>> [sorted(false_verdicts(claim, truth)) for truth in (0.0, 0.5, 2.0)]
    [['supported'], ['contradicted', 'supported'], ['contradicted']]
    """
    if math.isnan(truth):
        return frozenset(("supported", "contradicted"))
    if claim.direction == "equivalent":
        short = claim.margin - abs(truth)
    else:
        short = (truth if claim.direction == "greater" else -truth) - claim.margin
    if abs(short) <= _AT_THE_MARGIN * max(1.0, claim.margin):
        return frozenset(("supported", "contradicted"))
    return frozenset(("contradicted",) if short > 0 else ("supported",))


def calibrate_claim(
    claim: Claim, outcomes: Sequence[Outcome], level: float = 0.95, confidence: float = 0.999
) -> ClaimCalibration:
    """Count the verdicts on a claim over tables with known truths.

    Parameters
    ----------
    claim : Claim
    outcomes : sequence of Outcome
        One a table, independent, at least one.
    level : float
        The judgment's nominal level, in (0, 1).
    confidence : float
        Coverage of the exact intervals of the rates (Clopper & Pearson 1934), in (0, 1).

    Returns
    -------
    ClaimCalibration

    Raises
    ------
    InputError
        If there is no table, or a verdict is none of the three.

    Examples
    --------
    >>> claim = Claim(id="a", statement="A rises.", direction="greater", margin=0.5, source="-", estimand="change",
    ...               unit="points", test="t", held_fixed=(), scope="here")
    >>> seen = calibrate_claim(claim, [Outcome("supported", 0.6, 1.0, 0.95, 0.5)] + [Outcome("inconclusive", 0.1, 0.8,
    ...                        0.95, 0.5)] * 99)
    >>> seen.false_supported.successes, seen.false_contradicted.successes, seen.coverage.share, seen.holds
    (1, 0, 0.99, True)
    """
    if not outcomes:
        raise InputError("outcomes has length 0: expected at least 1")
    for outcome in outcomes:
        if outcome.verdict not in VERDICTS:
            raise unknown_name("outcome's verdict", outcome.verdict, VERDICTS)
    tables, level = len(outcomes), _checks.probability("level", level)
    words = [outcome.verdict for outcome in outcomes]
    false = [false_verdicts(claim, outcome.truth) for outcome in outcomes]

    def false_rate(word: str) -> Proportion | None:
        if not any(word in each for each in false):
            return None
        wrong = sum(given == word and word in each for given, each in zip(words, false, strict=True))
        return proportion_interval(wrong, tables, confidence)

    shown = [outcome for outcome in outcomes if outcome.low is not None]
    known = [outcome for outcome in shown if not math.isnan(outcome.truth)]
    covered = sum(outcome.low <= outcome.truth <= outcome.high for outcome in known)
    truths = [outcome.truth for outcome in outcomes]
    return ClaimCalibration(
        claim=claim.id,
        truth=None if any(map(math.isnan, truths)) else float(np.mean(truths)),
        tables=tables,
        supported=words.count("supported"),
        contradicted=words.count("contradicted"),
        inconclusive=words.count("inconclusive"),
        false_supported=false_rate("supported"),
        false_contradicted=false_rate("contradicted"),
        coverage=proportion_interval(covered, len(known), confidence) if known else None,
        mean_width=float(np.mean([outcome.high - outcome.low for outcome in shown])) if shown else None,
        mean_level=float(np.mean([outcome.level for outcome in shown])) if shown else None,
        zero_rejected=_zero_rejected(shown, truths, level, confidence),
        level=level,
    )


def _zero_rejected(
    shown: Sequence[Outcome], truths: Sequence[float], level: float, confidence: float
) -> Proportion | None:
    if not shown or any(truth != 0 for truth in truths) or any(outcome.level != level for outcome in shown):
        return None
    return proportion_interval(sum(not each.low <= 0 <= each.high for each in shown), len(shown), confidence)


def family_errors(
    claims: Sequence[Claim], outcomes: Mapping[str, Sequence[Outcome]], confidence: float = 0.999
) -> Proportion | None:
    """Return the share of tables in which any claim of a direction got a false verdict.

    Parameters
    ----------
    claims : sequence of Claim
        Controls (equivalences) among them are left out, as :func:`decide_together` does.
    outcomes : mapping of str to sequence of Outcome
        By claim's id, table by table, as many of each.
    confidence : float
        Coverage of the exact interval, in (0, 1).

    Returns
    -------
    Proportion or None
        None if no claim has a direction.

    Examples
    --------
    >>> claim = Claim(id="a", statement="A rises.", direction="greater", margin=0.5, source="-", estimand="change",
    ...               unit="points", test="t", held_fixed=(), scope="here")
    >>> family_errors([claim], {"a": [Outcome("supported", 0.6, 1.0, 0.95, 0.2)] * 3}).share
    1.0
    """
    family = [claim for claim in claims if claim.direction != "equivalent"]
    if not family:
        return None
    wrong = [[each.verdict in false_verdicts(claim, each.truth) for each in outcomes[claim.id]] for claim in family]
    by_table = [any(of_table) for of_table in zip(*wrong, strict=True)]
    return proportion_interval(sum(by_table), len(by_table), confidence)
