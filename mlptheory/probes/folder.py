"""A probe whose parts are the files of one folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from mlptheory.probes.probe import Probe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.probes.result import Result
    from mlptheory.probes.scenario import Scenario
    from mlptheory.stats import Claim, Verdict
    from mlptheory.trials import Trial


class FolderProbe(Probe):
    """Base of the probes that outgrew a file: a part is loaded from the file of its name when it is first asked for.

    So a design is made without loading its statistics, its figure or its simulation. A class that derives from one of
    these probes, wherever it is written, has that probe's parts.
    """

    _folder: ClassVar[str]

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Take the folder in which a probe's design is written for that of its parts."""
        super().__init_subclass__(**keywords)
        if FolderProbe in cls.__bases__:
            cls._folder = cls.__module__.rpartition(".")[0]

    def _part(self, file: str, name: str) -> Any:
        return getattr(import_module(f"{self._folder}.{file}"), name)

    def references(self) -> tuple[str, ...]:
        """Return the BibTeX keys of the claims, the methods, the data and the software."""
        return self._part("claims", "references")(self)

    def claims(self) -> tuple[Claim, ...]:
        """Return the claims and the controls; see the page of the probe."""
        return self._part("claims", "claims")(self)

    def trials(self) -> tuple[Trial, ...]:
        """Return the trials of the design; see the page of the probe."""
        return self._part("arms", "trials")(self)

    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return the verdicts; a pure function of the table."""
        return self._part("evidence", "judge")(self, table)

    def effects(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return means, leads and changes beside the verdicts', with 95 % t intervals."""
        return self._part("effects", "effects")(self, table)

    def power(self, pilot: Result | None) -> dict[str, str]:
        """Return what this many seeds can show, in a pilot's spread or in units of the spread."""
        return self._part("power", "power")(self, pilot)

    def scenarios(self) -> tuple[Scenario, ...]:
        """Return the planted truths that the judgment is calibrated on."""
        return self._part("scenarios", "SCENARIOS")

    def simulate(self, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return a table as the trials might give it; see `simulate` in the probe's file `simulation`."""
        return self._part("simulation", "simulate")(self, scenario, rng, bank)

    def truths(self, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
        """Return every claim's estimand in a scenario, whatever the table."""
        return self._part("simulation", "truths")(self, scenario)

    def bank_trials(self, runs: int) -> tuple[Trial, ...]:
        """Return trials that are equal but for the seed, whose outcomes calibration resamples."""
        return self._part("arms", "bank")(self, runs)

    def draw(self, result: Result) -> Figure:
        """Draw the figure of a result; its caption says what it shows."""
        return self._part("figure", "draw")(self, result)
