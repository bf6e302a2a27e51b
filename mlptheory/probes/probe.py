"""What every probe is: a frozen design, its trials, its judgment and its picture."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mlptheory.base.configuration import require_choice, require_integer, to_plain
from mlptheory.base.files import canonical_json, sha256
from mlptheory.base.launch import refuse_several_processes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.probes.plan import Plan
    from mlptheory.probes.result import Result
    from mlptheory.probes.scenario import Scenario
    from mlptheory.stats import Claim, Verdict
    from mlptheory.trials import Digests, Record, Schedule, Trial
    from mlptheory.trials.progress import WorkBar
    from mlptheory.trials.store import Store


@dataclass(frozen=True)
class Column:
    """A documented column of a table.

    Attributes
    ----------
    name, description, unit : str
    role : {"", "factor", "outcome"}
        Factors tell the arms of a design apart, outcomes are what is compared over them.
    """

    name: str
    description: str
    unit: str = ""
    role: str = ""


@dataclass(frozen=True, kw_only=True)
class Probe(ABC):
    """Base of all probes: subclass it as a frozen, keyword-only dataclass of plain values.

    A subclass states its claims before anything runs, lists its trials, and judges a table of their outcomes by a
    pure function, so that the same judgment can be run on simulated tables.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    caption: ClassVar[str]

    @abstractmethod
    def claims(self) -> tuple[Claim, ...]:
        """Return the claims, with estimand, margin, test, what is held fixed and scope."""

    @abstractmethod
    def references(self) -> tuple[str, ...]:
        """Return the BibTeX keys of what the claims, the data and the methods of this design rest on."""

    @abstractmethod
    def trials(self) -> tuple[Trial, ...]:
        """Return the trials of the design; their labels are the table's first columns."""

    def follow_up(self, table: pd.DataFrame | None) -> tuple[Trial, ...]:
        """Return the trials that the outcome of the first ones decides, such as runs at tuned learning rates.

        Parameters
        ----------
        table : DataFrame or None
            Of the first trials. Without one, trials that stand for those to come: as many, of the same cost.
        """
        return ()

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table: labels, then metrics of the records by name."""

    @abstractmethod
    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return a verdict for each claim, from the table alone."""

    @abstractmethod
    def effects(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the effects beside the verdicts', with intervals, for the reader."""

    def derived(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns that follow from a row's labels, metrics and train_examples, those of its training set."""
        return {}

    @abstractmethod
    def scenarios(self) -> tuple[Scenario, ...]:
        """Return the planted truths that the judgment is calibrated on."""

    @abstractmethod
    def simulate(self, scenario: Scenario, rng: np.random.Generator, bank: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return a table as the trials might give it in a scenario: Gaussian, or resampled from a bank of real runs."""

    @abstractmethod
    def truths(self, scenario: Scenario, table: pd.DataFrame) -> dict[str, float]:
        """Return every claim's estimand in a scenario, given what a table of it chose; NaN where there is none."""

    @abstractmethod
    def bank_trials(self, runs: int) -> tuple[Trial, ...]:
        """Return so many trials that are equal but for the seed, whose outcomes calibration resamples."""

    def with_every_claim(self) -> Probe:
        """Return this design with whatever more it needs for every claim that the probe knows."""
        return self

    @abstractmethod
    def power(self, pilot: Result | None) -> dict[str, str]:
        """Return, by claim, what the number of runs can show: in units of the pilot's spread, or of its own."""

    @abstractmethod
    def draw(self, result: Result) -> Figure:
        """Return the figure of a result."""

    def settings(self) -> dict[str, Any]:
        """Return the probe's fields as plain data."""
        return {field.name: to_plain(getattr(self, field.name)) for field in fields(self)}

    def plan(
        self,
        *,
        store: str | Store | None = None,
        workers: int | None = None,
        data_root: str | None = None,
        device: str | None = None,
        pilot: Result | None = None,
    ) -> Plan:
        """Say what `run` would do, and what it would cost here, without running a trial.

        Parameters
        ----------
        store : path or Store, optional
            Where finished trials are looked for.
        workers : int, optional
            Processes.
        data_root : str, optional
            Where official dataset files are looked for first.
        device : str, optional
            The best that torch finds, if None.
        pilot : Result, optional
            An earlier result of a like design, whose spread gives the power of this one.

        Returns
        -------
        Plan
        """
        from mlptheory.probes.plan import make_plan
        from mlptheory.trials import open_store

        if workers is not None:
            require_integer("workers", workers, 1)
        kept = open_store(store)
        prepared = foresee(self, self._prepare(kept, data_root, device), kept, data_root)
        return make_plan(self, prepared, store=kept, workers=workers, data_root=data_root, pilot=pilot)

    def run(
        self,
        *,
        store: str | Store | None = None,
        executor: str = "local",
        workers: int | None = None,
        data_root: str | None = None,
        device: str | None = None,
        plugins: Sequence[str] = (),
        progress: bool = True,
        planned_s: float | None = None,
    ) -> Result:
        """Run every trial that the store does not hold yet, and judge.

        Parameters
        ----------
        store : path or Store, optional
            A folder that keeps records, so that an interrupted run goes on; memory if None.
        executor : {"local"}
            Worker processes on this machine. A script calls this under ``if __name__ == "__main__":``.
        workers : int, optional
            Processes; as many as cores hold, if None. Changes no number.
        data_root : str, optional
            Where official dataset files are looked for first.
        device : str, optional
            The best that torch finds, if None.
        plugins : sequence of str
            Python files that register users' own datasets, models, observers or measures.
        progress : bool
            Show a progress bar.
        planned_s : float, optional
            The plan's seconds, to stand beside those taken.

        Returns
        -------
        Result

        Raises
        ------
        InputError
            For a setting that cannot be used, or a dataset that is not there.
        WorkerDiedError
            If a worker process dies; finished trials are kept in the store.
        """
        from mlptheory.base.plugins import load_plugins
        from mlptheory.probes.result import assemble, make_table
        from mlptheory.training.parallel import join
        from mlptheory.trials import open_store
        from mlptheory.trials.progress import progress_bar

        require_choice("executor", executor, ("local",))
        refuse_several_processes("probe", join().size)
        if workers is not None:
            require_integer("workers", workers, 1)
        load_plugins(plugins)
        kept = open_store(store)
        began = time.perf_counter()
        prepared = self._prepare(kept, data_root, device)
        if kept.get_schedule(prepared.undecided_digest) is None:
            kept.put_schedule(prepared.undecided_digest, prepared.schedule.to_plain())
        how = {"store": kept, "workers": workers, "data_root": data_root, "plugins": plugins}
        with progress_bar(foresee(self, prepared, kept, data_root).distinct(), data_root, shown=progress) as bar:
            ordered = run_records(prepared, bar, **how)
            later = self.follow_up(make_table(self, prepared.trials, ordered, data_root))
            if later:
                prepared = prepared.with_later(later)
                ordered = run_records(prepared, bar, **how)
        return assemble(
            self,
            prepared.design,
            prepared.trials,
            ordered,
            data_root=data_root,
            taken_s=time.perf_counter() - began,
            planned_s=planned_s,
        )

    def _prepare(self, store: Store, data_root: str | None, device: str | None) -> Prepared:
        """Fix everything that is decided before the first trial; a schedule begun in the store is kept to."""
        from mlptheory.base.configuration import from_plain
        from mlptheory.training import data_digest
        from mlptheory.trials import Schedule, code_digest, digest_trials, plan_schedule, require_device

        trials = self.trials()
        names = sorted({each.recipe.data.name for trial in trials for each in trial.with_ancestors() if each.recipe})
        data_digests = {name: data_digest(name, data_root) for name in names}
        code = code_digest()
        undecided = {
            "probe": self.name,
            "settings": self.settings(),
            "claims": [to_plain(claim) for claim in self.claims()],
            "data": data_digests,
            "code": code,
        }
        undecided_digest = sha256(canonical_json(undecided))
        begun = store.get_schedule(undecided_digest)
        schedule = from_plain(Schedule, begun, "schedule") if begun else None
        if schedule is None or (device is not None and schedule.device != device):
            schedule = plan_schedule(trials, self.follow_up(None), device=device)
        require_device(schedule.device)
        digests = digest_trials(trials, data_digests=data_digests, schedule=schedule, code=code)
        design = {
            **undecided,
            "title": self.title,
            "question": self.question,
            "references": list(self.references()),
            "schedule": schedule.to_plain(),
            "trials": [digests[trial] for trial in trials],
        }
        design["digest"] = sha256(canonical_json(design))
        return Prepared(trials, digests, schedule, design, undecided_digest)


@dataclass(frozen=True)
class Prepared:
    """A design with everything decided that is decided before the first trial.

    Attributes
    ----------
    trials : tuple of Trial
        Of the first stage, or of both.
    digests : Digests
        Of the trials and all their ancestors.
    schedule : Schedule
    design : dict
        What `result.json` holds of it.
    undecided_digest : str
        Of the design without its schedule; names the schedule in the store.
    """

    trials: tuple[Trial, ...]
    digests: Digests
    schedule: Schedule
    design: Mapping[str, Any]
    undecided_digest: str

    def distinct(self) -> dict[str, Trial]:
        """Return every distinct trial, ancestors included, by digest."""
        return {digest: trial for trial, digest in self.digests.items()}

    def units(self) -> list[tuple[Trial, ...]]:
        """Return every distinct trial once, those that are trained as one computation together."""
        together = {trial: group for group in self.digests.groups for trial in group}
        return list(dict.fromkeys(together.get(trial, (trial,)) for trial in self.digests))

    def with_later(self, later: Sequence[Trial]) -> Prepared:
        """Return the design with the trials that follow the first ones."""
        from mlptheory.trials import digest_trials

        trials = (*self.trials, *later)
        digests = digest_trials(
            trials, schedule=self.schedule, data_digests=self.design["data"], code=self.design["code"]
        )
        return replace(self, trials=trials, digests=digests)


def run_records(
    prepared: Prepared,
    bar: WorkBar,
    *,
    store: Store,
    workers: int | None,
    data_root: str | None,
    plugins: Sequence[str],
) -> list[Record]:
    """Run what the store does not hold of a design's trials; return their records in order, moving the bar."""
    from mlptheory.trials import run_trials

    bar.watch(prepared.distinct())
    records = {}
    for record in run_trials(
        prepared.trials,
        prepared.digests,
        schedule=prepared.schedule,
        store=store,
        workers=workers,
        data_root=data_root,
        plugins=plugins,
        progress=bar.report,
    ):
        records[record.digest] = record
        bar.report(record.digest, 1.0)
    return [records[prepared.digests[trial]] for trial in prepared.trials]


def foresee(probe: Probe, prepared: Prepared, store: Store, data_root: str | None = None) -> Prepared:
    """Return a design with its follow-up: that which the store's records decide, or what stands for it until then."""
    from mlptheory.probes.result import make_table

    records = [store.get(prepared.digests[trial]) for trial in prepared.trials]
    known = all(record is not None for record in records)
    later = probe.follow_up(make_table(probe, prepared.trials, records, data_root) if known else None)
    return prepared.with_later(later) if later else prepared
