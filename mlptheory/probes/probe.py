"""What every probe is: a frozen design, its trials, its judgment and its picture."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from mlptheory.base.configuration import require_choice, require_integer, to_plain
from mlptheory.base.files import canonical_json, sha256

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from mlptheory.probes.plan import Plan
    from mlptheory.probes.result import Result
    from mlptheory.stats import Claim, Verdict
    from mlptheory.trials import Digests, Schedule, Trial
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

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Return the documented columns of the table: labels, then metrics of the records by name."""

    @abstractmethod
    def judge(self, table: pd.DataFrame) -> tuple[Verdict, ...]:
        """Return a verdict for each claim, from the table alone."""

    @abstractmethod
    def effects(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the effects beside the verdicts', with intervals, for the reader."""

    @abstractmethod
    def simulate(self, effect: float, rng: np.random.Generator) -> pd.DataFrame:
        """Return a table as the trials might give it if the main claim's estimand were `effect`."""

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
        prepared = self._prepare(kept, data_root, device)
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
        from mlptheory.probes.result import assemble
        from mlptheory.trials import open_store, run_trials

        require_choice("executor", executor, ("local",))
        if workers is not None:
            require_integer("workers", workers, 1)
        load_plugins(plugins)
        kept = open_store(store)
        began = time.perf_counter()
        prepared = self._prepare(kept, data_root, device)
        if kept.get_schedule(prepared.undecided_digest) is None:
            kept.put_schedule(prepared.undecided_digest, prepared.schedule.to_plain())
        records = {}
        with _progress_bar(prepared, data_root, shown=progress) as report:
            for record in run_trials(
                prepared.trials,
                prepared.digests,
                schedule=prepared.schedule,
                store=kept,
                workers=workers,
                data_root=data_root,
                plugins=plugins,
                progress=report,
            ):
                records[record.digest] = record
                report(record.digest, 1.0)
        ordered = [records[prepared.digests[trial]] for trial in prepared.trials]
        return assemble(self, prepared.design, ordered, taken_s=time.perf_counter() - began, planned_s=planned_s)

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
        if schedule is None or device is not None:
            schedule = plan_schedule(trials, device=device)
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


@contextlib.contextmanager
def _progress_bar(prepared: Prepared, data_root: str | None, *, shown: bool) -> Iterator[Callable[[str, float], None]]:
    """Yield a function (digest, share done) that moves one bar over all the work."""
    from tqdm.auto import tqdm

    from mlptheory.training import count_work, training_size

    # A step costs its examples, and an overhead as of 32 more.
    work = {
        digest: count_work(recipe, training_size(recipe.data, data_root)).steps * (recipe.budget.batch_size + 32.0)
        for digest, recipe in ((digest, trial.recipe) for digest, trial in prepared.distinct().items())
        if recipe is not None
    }
    total = sum(work.values()) or 1.0
    done: dict[str, float] = {}
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(
        total=100.0, disable=not shown, bar_format=form, desc="trials", dynamic_ncols=True, mininterval=0.5
    ) as bar:

        def report(digest: str, share: float) -> None:
            moved = share - done.get(digest, 0.0)
            if moved <= 0:
                return
            done[digest] = share
            finished = sum(1 for value in done.values() if value >= 1.0)
            bar.set_description(f"{finished}/{len(prepared.distinct())} trials", refresh=False)
            # Rounding may carry the sum of all shares past 100, at which tqdm warns.
            bar.update(min(100.0 * moved * work.get(digest, 0.0) / total, bar.total - bar.n))

        yield report
