"""A bank of real runs that are equal but for the seed: the noise that calibration resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlptheory.base.errors import InputError
from mlptheory.base.files import canonical_json, sha256

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.probe import Prepared, Probe
    from mlptheory.trials.store import Store


def run_bank(
    probe: Probe,
    runs: int,
    *,
    store: str | Store | None = None,
    workers: int | None = None,
    data_root: str | None = None,
    device: str | None = None,
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> tuple[pd.DataFrame, str]:
    """Run the trials of a probe's bank that the store does not hold yet.

    Parameters
    ----------
    probe : Probe
    runs : int
        As many of `Probe.bank_trials`.
    store, workers, data_root, device, plugins, progress
        As for `Probe.run`.

    Returns
    -------
    table : DataFrame
        One row a run, with the probe's columns.
    digest : str
        SHA-256 of the records' digests, in order.

    Raises
    ------
    InputError
        If a run diverged: a bank of the others would be a selection.
    WorkerDiedError
        If a worker process dies; finished runs are kept in the store.
    """
    from mlptheory.probes.probe import run_records
    from mlptheory.probes.result import make_table
    from mlptheory.trials import open_store
    from mlptheory.trials.progress import progress_bar

    kept = open_store(store)
    prepared = _prepare(probe, runs, data_root, device)
    with progress_bar(prepared.distinct(), data_root, shown=progress) as bar:
        ordered = run_records(prepared, bar, store=kept, workers=workers, data_root=data_root, plugins=plugins)
    diverged = sum(record.diverged is not None for record in ordered)
    if diverged:
        raise InputError(f"{diverged} of the {len(ordered)} runs of the bank diverged: expected a design that trains")
    table = make_table(probe, prepared.trials, ordered, data_root)
    return table, sha256(canonical_json([record.digest for record in ordered]))


def _prepare(probe: Probe, runs: int, data_root: str | None, device: str | None) -> Prepared:
    from mlptheory.probes.probe import Prepared
    from mlptheory.training import data_digest
    from mlptheory.trials import code_digest, digest_trials, plan_schedule

    trials = probe.bank_trials(runs)
    names = sorted({each.recipe.data.name for trial in trials for each in trial.with_ancestors() if each.recipe})
    design = {"data": {name: data_digest(name, data_root) for name in names}, "code": code_digest()}
    schedule = plan_schedule(trials, device=device)
    digests = digest_trials(trials, data_digests=design["data"], schedule=schedule, code=design["code"])
    return Prepared(trials, digests, schedule, design, sha256(canonical_json(design)))
