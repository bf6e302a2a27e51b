"""Run many trials on this machine: spawned, persistent worker processes, parents before children."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue as queue_module
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlptheory.base.errors import invalid
from mlptheory.base.files import canonical_json, sha256, writable_folder
from mlptheory.base.plugins import load_plugins
from mlptheory.training.parallel import join
from mlptheory.trials.digest import Digests
from mlptheory.trials.fitting import require_fitting_data
from mlptheory.trials.grouping import describe_members
from mlptheory.trials.logs import NoLogs, RunLogs, require_log
from mlptheory.trials.record import Record
from mlptheory.trials.run import Task, run_group, run_trial
from mlptheory.trials.schedule import Schedule
from mlptheory.trials.store import Store
from mlptheory.trials.trial import Trial

Progress = Callable[[str, float], None]

_progress_queue: Any = None


class WorkerDiedError(RuntimeError):
    """A worker process ended without an answer, most often because the machine ran out of memory."""


def _start_worker(plugins: Sequence[str], threads: int, alive: Connection, queue: Any) -> None:
    """Prepare a worker: one thread, the user's plugins, and no life beyond its parent's."""
    global _progress_queue
    _progress_queue = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; only the parent acts on it
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    import torch
    from tqdm import tqdm

    torch.set_num_threads(threads)
    # The lock that bars make by themselves spans processes, and a worker that ends at once would leave it behind.
    tqdm.set_lock(threading.RLock())
    load_plugins(plugins)


def _end_with_parent(alive: Connection) -> None:
    """End at once when the parent closes its end of the pipe, or dies and so closes it."""
    with contextlib.suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _work(unit: str, tasks: Sequence[Task]) -> Sequence[tuple[Record, bytes | None]]:
    last = 0.0

    def report(step: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5:
            last = now
            _progress_queue.put((unit, step / total))

    if len(tasks) > 1:
        outcomes = run_group(tasks, report)
        for task, (record, _) in zip(tasks, outcomes, strict=True):
            with _logs_of(task) as logs:
                logs.finish(record.history)
        return outcomes
    with _logs_of(tasks[0]) as logs:
        record, weights = run_trial(tasks[0], report, logs.follow)
        logs.finish(record.history)
    return [(record, weights)]


def _run_here(task: Task, store: Store, progress: Progress | None) -> Record:
    """Run a trial in this process, together with the others that a launcher started."""

    def report(step: int, total: int) -> None:
        if progress is not None:
            progress(task.digest, step / total)

    with _logs_of(task if join().is_first else replace(task, logs=None)) as logs:
        record, weights = run_trial(task, report, logs.follow)
        logs.finish(record.history)
    if weights is not None:
        store.put_weights(record.digest, weights)
    store.put(record)
    store.drop_checkpoint(task.digest)
    return record


def _logs_of(task: Task) -> RunLogs | NoLogs:
    if task.logs is None:
        return NoLogs()
    return RunLogs(writable_folder("logs", task.logs / task.digest[:16]), task.digest, task.log)


def default_workers(schedule: Schedule) -> int:
    """Return how many trials, or groups, run beside each other here: as many as cores hold, one on a GPU."""
    if schedule.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // schedule.threads)


def run_trials(
    trials: Sequence[Trial],
    digests: Digests,
    *,
    schedule: Schedule,
    store: Store,
    workers: int | None = None,
    data_root: str | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    kept: Sequence[Trial] = (),
    logs: Path | None = None,
    log: str | None = None,
) -> Iterator[Record]:
    """Run trials and all they need, and yield each record as it comes, finished ones first.

    Trials that the digests say are trained together are one unit of work: if the record of any member is missing,
    all are trained, and what was missing is kept.

    Parameters
    ----------
    trials : sequence of Trial
        Of which equal ones run once; they may be one stage of a design.
    digests : Digests
        As `mlptheory.trials.digest_trials` returns them, of every trial and all its ancestors.
    schedule : Schedule
    store : Store
        Records found there are not computed again; new ones are kept there as they come.
    workers : int, optional
        Processes; as many as cores hold, if None. Changes no bit of any record. Where the schedule is data parallel
        there are none: trials run one after another in the processes of the launcher, which all call this.
    data_root : str, optional
    plugins : sequence of str
        Files that each worker imports first.
    progress : callable, optional
        Called with (digest, share done), in the caller's thread; of a group, for each member that was missing.
    kept : sequence of Trial
        Of the trials, those whose trained weights are wanted in the store; parents' are always there.
    logs : Path, optional
        Folder in which each trial that is run gets one of its own, named by the first 16 characters of its digest, with
        metrics.jsonl: its history, while it grows. A member of an ensemble gets it at the end.
    log : {"tensorboard"}, optional
        What to write there besides.

    Yields
    ------
    Record

    Raises
    ------
    InputError
        If the log is unknown, needs a package that is not installed, or has no folder.
    WorkerDiedError
        If a worker process dies; finished trials are kept.
    """
    require_log(log)
    if log is not None and logs is None:
        raise invalid("logs", None, f"a folder, as log = {log!r} needs one to write to")
    units = {unit.digest: unit for unit in _units(trials, digests)}
    wanted = {digests[trial] for trial in kept}
    wanted |= {
        digests[parent]
        for unit in units.values()
        for trial in unit.trials
        for parent in trial.parents
        if parent.recipe is not None
    }
    missing: set[str] = set()
    for digest in (digest for unit in units.values() for digest in unit.members):
        record = store.get(digest)
        if record is not None and (digest not in wanted or store.get_weights(digest) is not None):
            yield record
        else:
            missing.add(digest)
    waiting = [unit for unit in units.values() if not missing.isdisjoint(unit.members)]
    if not waiting:
        return
    require_fitting_data([trial for unit in waiting for trial in unit.trials], data_root)
    if schedule.data_parallel:
        for unit in waiting:
            (task,) = _tasks(unit, digests, schedule, store, data_root, wanted)
            yield _run_here(replace(task, logs=logs, log=log), store, progress)
        return
    count = min(workers or default_workers(schedule), len(waiting))
    with _pool(count, schedule, plugins) as (pool, news):
        running: dict[Future, _Unit] = {}
        while waiting or running:
            for unit in [unit for unit in waiting if missing.isdisjoint(unit.needed)]:
                waiting.remove(unit)
                tasks = _tasks(unit, digests, schedule, store, data_root, wanted)
                tasks = [replace(task, logs=logs, log=log) for task in tasks]
                running[_submit(pool, unit.digest, tasks)] = unit
            done, _ = wait(running, timeout=None if progress is None else 0.5, return_when=FIRST_COMPLETED)
            while progress is not None and not news.empty():
                digest, share = news.get()
                for member in missing.intersection(units[digest].members):
                    progress(member, share)
            # What ended well is kept before a worker that died is told of.
            for future in sorted(done, key=lambda each: each.exception() is not None):
                unit = running.pop(future)
                ended = [(record, weights) for record, weights in _answer(future) if record.digest in missing]
                for record, weights in ended:
                    if weights is not None:
                        store.put_weights(record.digest, weights)
                    store.put(record)
                    missing.remove(record.digest)
                store.drop_checkpoint(unit.digest)
                for record, _ in ended:
                    if progress is not None:
                        progress(record.digest, 1.0)
                    yield record


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unit:
    """What one worker does in one go: a trial by itself, or an ensemble.

    Attributes
    ----------
    digest : str
        Of the trial, or of all members' digests; names the checkpoint.
    trials : tuple of Trial
    members : tuple of str
        The trials' digests.
    needed : frozenset of str
        Digests of the trials' parents.
    """

    digest: str
    trials: tuple[Trial, ...]
    members: tuple[str, ...]
    needed: frozenset[str]


def _units(trials: Sequence[Trial], digests: Digests) -> Iterator[_Unit]:
    """Yield the work that the trials and all their ancestors are, parents before children."""
    together = {digests[trial]: group for group in digests.groups for trial in group}
    seen: set[str] = set()
    for trial in itertools.chain.from_iterable(trial.with_ancestors() for trial in trials):
        if digests[trial] in seen:
            continue
        group = together.get(digests[trial], (trial,))
        members = tuple(digests[each] for each in group)
        seen.update(members)
        yield _Unit(
            digest=members[0] if len(members) == 1 else sha256(canonical_json(list(members))),
            trials=group,
            members=members,
            needed=frozenset(digests[parent] for each in group for parent in each.parents),
        )


def _tasks(
    unit: _Unit, digests: Digests, schedule: Schedule, store: Store, data_root: str | None, wanted: Collection[str]
) -> list[Task]:
    ensembles = describe_members(unit.trials) if len(unit.trials) > 1 else (None,)
    tasks = []
    for trial, digest, ensemble in zip(unit.trials, unit.members, ensembles, strict=True):
        weights = [store.get_weights(digests[parent]) for parent in trial.parents if parent.recipe is not None]
        task = Task(
            trial=trial,
            digest=digest,
            parent_digests=tuple(digests[parent] for parent in trial.parents),
            parent_weights=tuple(weight for weight in weights if weight is not None),
            schedule=schedule,
            data_root=data_root,
            checkpoint=store.checkpoint_path(unit.digest),
            keep_weights=digest in wanted,
            ensemble=ensemble,
        )
        tasks.append(task)
    return tasks


def _submit(pool: ProcessPoolExecutor, unit: str, tasks: Sequence[Task]) -> Future:
    try:
        with _no_interrupt():
            return pool.submit(_work, unit, tasks)
    except BrokenProcessPool as error:
        raise WorkerDiedError(_DIED) from error


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back while a worker is started: it inherits that, so the terminal's Ctrl-C never wakes it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(future: Future) -> Sequence[tuple[Record, bytes | None]]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise WorkerDiedError(_DIED) from error


_DIED = (
    "a worker process died before it answered (out of memory, or killed; or a script that calls run() outside "
    "`if __name__ == '__main__':`); finished trials are kept where a store is given, and the same call goes on"
)


@contextlib.contextmanager
def _pool(
    count: int, schedule: Schedule, plugins: Sequence[str]
) -> Iterator[tuple[ProcessPoolExecutor, queue_module.SimpleQueue]]:
    """Open the workers, and what they tell of their progress; however this block is left, they end at once."""
    context = multiprocessing.get_context("spawn")
    alive, ours = context.Pipe(duplex=False)
    queue, finished = context.Queue(), threading.Event()
    news: queue_module.SimpleQueue = queue_module.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(queue, finished, news), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_start_worker, initargs=(plugins, schedule.threads, alive, queue)
    )
    try:
        yield pool, news
    finally:
        ours.close()
        pool.shutdown(wait=True, cancel_futures=True)
        alive.close()
        finished.set()
        # A worker that was ended while it wrote leaves half a message, which would never end: so not without limit.
        listener.join(timeout=2.0)
        queue.close()


def _listen(queue: Any, finished: threading.Event, news: queue_module.SimpleQueue) -> None:
    """Pass on what workers tell, in a thread, as half a message of a worker that was killed would block for ever."""
    while not finished.is_set():
        with contextlib.suppress(queue_module.Empty):
            news.put(queue.get(timeout=0.2))
