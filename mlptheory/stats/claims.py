"""A claim of theory, written down before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mlptheory.base import InputError, invalid, unknown_name

DIRECTIONS = ("greater", "less", "equivalent")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is claimed, by whom, and what would count for and against it.

    Attributes
    ----------
    id : str
        Short name, unique within a probe: "larger-batches-better".
    statement : str
        The claim as one sentence. That of a control, which must hold if the harness is to be believed, begins with
        "Control"; reports count controls by themselves.
    source : str
        Where it is made: paper, section or figure.
    bibtex_key : str or None
        Key of the source among the references; None for a claim that needs no source, such as a control.
    estimand : str
        The quantity the interval is about, and over what it varies (these data and new seeds, or new data too).
    direction : {"greater", "less", "equivalent"}
        Whether the estimand is claimed to lie above +margin, below −margin, or between the two.
    margin : float
        Smallest effect of interest δ, at least 0 (above 0 for "equivalent"), in `unit`.
    unit : str
        Unit of the estimand and the margin: "percentage points".
    test : str
        The interval that decides: "95 % t interval of the per-seed linear trend over log2 batch size".
    held_fixed : tuple of str
        What is the same in all arms.
    scope : str
        Where the claim is tested here, hence what a verdict can be about.

    Raises
    ------
    InputError
        If a text is empty, the direction unknown or the margin out of range.

    Examples
    --------
    >>> claim = Claim(
    ...     id="larger-batches-better",
    ...     statement="Larger batches give better test accuracy at equal epochs.",
    ...     source="Bachmann et al. 2023, Fig. 4",
    ...     bibtex_key="Bachmann2023",
    ...     estimand="change in test accuracy from the smallest to the largest batch, over seeds",
    ...     direction="greater",
    ...     margin=0.5,
    ...     unit="percentage points",
    ...     test="95 % t interval of the per-seed linear trend",
    ...     held_fixed=("epochs", "learning rate"),
    ...     scope="digits, B-2/Wi-64, trained from scratch",
    ... )
    >>> claim.direction
    'greater'
    """

    id: str
    statement: str
    source: str
    bibtex_key: str | None = None
    estimand: str
    direction: str
    margin: float
    unit: str
    test: str
    held_fixed: tuple[str, ...]
    scope: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "str" and not (isinstance(value, str) and value.strip()):
                raise invalid(f"Claim.{field.name}", value, "a text that is not empty")
        if self.direction not in DIRECTIONS:
            raise unknown_name("Claim.direction", self.direction, DIRECTIONS)
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not math.isfinite(self.margin):
            raise invalid("Claim.margin", self.margin, "a finite number of at least 0")
        if self.margin < 0 or (self.direction == "equivalent" and self.margin == 0):
            least = "above 0 for an equivalence" if self.direction == "equivalent" else "of at least 0"
            raise invalid("Claim.margin", self.margin, f"a finite number {least}")
        if not isinstance(self.held_fixed, tuple) or not all(isinstance(item, str) for item in self.held_fixed):
            raise InputError(f"Claim.held_fixed = {self.held_fixed!r}: expected a tuple of texts")
