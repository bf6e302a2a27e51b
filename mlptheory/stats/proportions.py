"""How often something happens among independent studies: a share with its exact interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from mlptheory.base import InputError, invalid, unknown_name
from mlptheory.base.random import generator
from mlptheory.stats import _checks
from mlptheory.stats.verdicts import VERDICTS


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share of independent trials with its exact interval.

    Attributes
    ----------
    successes, n : int
    share : float
        successes / n.
    low, high : float
        Ends of the interval, in [0, 1].
    level : float
        Coverage the interval is made for.
    """

    successes: int
    n: int
    share: float
    low: float
    high: float
    level: float


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Proportion:
    r"""Return the exact interval of a probability from `successes` in `n` independent trials (Clopper & Pearson 1934).

    Its ends are the (1 − level)/2 quantile of Beta(k, n − k + 1) and the (1 + level)/2 quantile of Beta(k + 1, n − k);
    0 where k = 0, and 1 where k = n. It covers with at least `level`, whatever the probability.

    Parameters
    ----------
    successes : int
        k, from 0 to n.
    n : int
        At least 1.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    Proportion

    Raises
    ------
    InputError
        If an argument is out of its range.

    Examples
    --------
    >>> found = proportion_interval(0, 5000, level=0.999)
    >>> found.low, round(found.high, 5)
    (0.0, 0.00152)
    """
    n = _checks.count("n", n, at_least=1)
    k = _checks.count("successes", successes, at_least=0)
    if k > n:
        raise invalid("successes", successes, f"at most n = {n}")
    tail = (1 - _checks.probability("level", level)) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return Proportion(successes=k, n=n, share=k / n, low=low, high=high, level=float(level))


def simulated_power(
    study: Callable[[np.random.Generator], Sequence[str]],
    studies: int = 1000,
    word: str = "supported",
    level: float = 0.999,
    seed: int = 0,
) -> tuple[Proportion, ...]:
    """Return how often simulated studies give a claim a verdict, for judgments that no formula of power covers.

    Parameters
    ----------
    study : callable
        Takes a NumPy generator, simulates one study under the truth in question and returns a verdict's word per
        claim, always in the same order.
    studies : int
        Studies to simulate, at least 1.
    word : {"supported", "contradicted", "inconclusive"}
        What is counted.
    level : float
        Coverage of each share's exact interval, in (0, 1).
    seed : int
        Study k draws from a generator keyed by the seed and k.

    Returns
    -------
    tuple of Proportion
        One per claim.

    Raises
    ------
    InputError
        If an argument is out of its range, or a study returns another number of words, or another word.

    Examples
    --------
    >>> def study(rng):
    ...     return ["supported" if rng.normal(1.0) > 0 else "inconclusive"]
    >>> (found,) = simulated_power(study, studies=200)
    >>> found.low < 0.8413 < found.high
    True
    """
    studies = _checks.count("studies", studies, at_least=1)
    if word not in VERDICTS:
        raise unknown_name("word", word, VERDICTS)
    counts: list[int] = []
    for index in range(studies):
        words = list(study(generator(seed, "simulated power", index)))
        counts = counts or [0] * len(words)
        if len(words) != len(counts):
            raise InputError(f"study returned {len(words)} verdicts: expected {len(counts)}, as before")
        for claim, given in enumerate(words):
            if given not in VERDICTS:
                raise unknown_name("study's verdict", given, VERDICTS)
            counts[claim] += given == word
    return tuple(proportion_interval(count, studies, level) for count in counts)
