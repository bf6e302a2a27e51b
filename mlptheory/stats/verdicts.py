"""What a study says about one claim, as plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from mlptheory.base import InputError, unknown_name

VERDICTS = ("supported", "contradicted", "inconclusive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim with the evidence it rests on.

    Attributes
    ----------
    id : str
        The claim's short name.
    claim : str
        The claim's statement.
    source, scope : str
        From the claim.
    direction : {"greater", "less", "equivalent"}
        What was claimed of the effect with respect to the margin.
    effect, low, high : float or None
        Estimate and ends of the interval, in `unit`; None if there were too few runs for an interval.
    level : float or None
        Coverage the shown interval is made for; of several claims decided together, each has its own.
    n : int
        Independent runs (blocks) behind the effect.
    p : float or None
        Of the decision: the smallest 1 − level at which the claim would still be decided, one way or the other. It is
        two-sided against the margin (not against 0) and, where several claims were decided together, adjusted by Holm's
        method. None if nothing was tested: a forced verdict, fewer than 3 runs, or runs that show no spread.
    verdict : {"supported", "contradicted", "inconclusive"}
        The verdict.
    reason : str
        One sentence with the numbers that decided.
    unit : str
        Of effect, low, high and margin.
    margin : float
        Smallest effect of interest δ.

    Raises
    ------
    InputError
        If the verdict is not one of the three, or a number is not finite.

    Examples
    --------
    >>> verdict = Verdict(
    ...     id="larger-better", claim="Larger batches are better.", source="Bachmann et al. 2023, Fig. 4",
    ...     scope="digits", direction="greater", effect=1.2, low=0.7, high=1.7, level=0.95, n=5, p=0.003,
    ...     verdict="supported", reason="The 95 % interval lies wholly above the margin.", unit="points", margin=0.5,
    ... )
    >>> Verdict.from_json(verdict.to_json()) == verdict
    True
    """

    id: str
    claim: str
    source: str
    scope: str
    direction: str
    effect: float | None
    low: float | None
    high: float | None
    level: float | None
    n: int
    p: float | None
    verdict: str
    reason: str
    unit: str
    margin: float

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise unknown_name("Verdict.verdict", self.verdict, VERDICTS)
        for name in ("effect", "low", "high", "level", "p", "margin"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"Verdict.{name} = {value!r}: expected a finite number")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold, in their order.

        Returns
        -------
        dict of str to str, int, float or None
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Verdict:
        """Return the verdict that :meth:`to_json` wrote.

        Parameters
        ----------
        values : mapping
            One entry per field.

        Returns
        -------
        Verdict

        Raises
        ------
        InputError
            If a field is missing or unknown.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise unknown_name("Verdict field", name, names)
        missing = [name for name in names if name not in values]
        if missing:
            raise InputError(f"Verdict: expected the fields {', '.join(names)}; missing: {', '.join(missing)}")
        return cls(**values)
