"""Run many trials on this machine: spawned, persistent worker processes, parents before children."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue as queue_module
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from mlptheory.base.plugins import load_plugins
from mlptheory.trials.fitting import require_fitting_data
from mlptheory.trials.record import Record
from mlptheory.trials.run import Task, run_trial
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

    torch.set_num_threads(threads)
    load_plugins(plugins)


def _end_with_parent(alive: Connection) -> None:
    """End at once when the parent closes its end of the pipe, or dies and so closes it."""
    with contextlib.suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _work(task: Task) -> tuple[Record, bytes | None]:
    last = 0.0

    def report(step: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5:
            last = now
            _progress_queue.put((task.digest, step / total))

    return run_trial(task, report)


def default_workers(schedule: Schedule) -> int:
    """Return how many trials run beside each other here: as many as cores hold, one on a GPU."""
    if schedule.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // schedule.threads)


def run_trials(
    trials: Sequence[Trial],
    digests: dict[Trial, str],
    *,
    schedule: Schedule,
    store: Store,
    workers: int | None = None,
    data_root: str | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Run trials and all they need, and yield each record as it comes, finished ones first.

    Parameters
    ----------
    trials : sequence of Trial
        Of which equal ones run once.
    digests : dict of Trial to str
        Of every trial and all its ancestors.
    schedule : Schedule
    store : Store
        Records found there are not computed again; new ones are kept there as they come.
    workers : int, optional
        Processes; as many as cores hold, if None. Changes no bit of any record.
    data_root : str, optional
    plugins : sequence of str
        Files that each worker imports first.
    progress : callable, optional
        Called with (digest, share done), in the caller's thread.

    Yields
    ------
    Record

    Raises
    ------
    WorkerDiedError
        If a worker process dies; finished trials are kept.
    """
    needed: dict[str, Trial] = {}
    for trial in trials:
        for each in trial.with_ancestors():
            needed.setdefault(digests[each], each)
    parents = {digests[parent] for trial in needed.values() for parent in trial.parents if parent.recipe is not None}
    waiting: dict[str, Trial] = {}
    for digest, trial in needed.items():
        record = store.get(digest)
        if record is not None and (digest not in parents or store.get_weights(digest) is not None):
            yield record
        else:
            waiting[digest] = trial
    if not waiting:
        return
    require_fitting_data(list(waiting.values()), data_root)
    count = min(workers or default_workers(schedule), len(waiting))
    with _pool(count, schedule, plugins) as (pool, news):
        running: dict[Future, str] = {}
        while waiting or running:
            ready = [
                digest
                for digest, trial in waiting.items()
                if not any(
                    digests[parent] in waiting or digests[parent] in running.values() for parent in trial.parents
                )
            ]
            for digest in ready:
                task = _task(waiting.pop(digest), digests, schedule, store, data_root, digest in parents)
                running[_submit(pool, task)] = digest
            done, _ = wait(running, timeout=None if progress is None else 0.5, return_when=FIRST_COMPLETED)
            while progress is not None and not news.empty():
                progress(*news.get())
            for future in done:
                digest = running.pop(future)
                record, weights = _answer(future)
                if weights is not None:
                    store.put_weights(digest, weights)
                store.put(record)
                if progress is not None:
                    progress(digest, 1.0)
                yield record


def _task(
    trial: Trial, digests: dict[Trial, str], schedule: Schedule, store: Store, data_root: str | None, keep: bool
) -> Task:
    digest = digests[trial]
    weights = [store.get_weights(digests[parent]) for parent in trial.parents if parent.recipe is not None]
    return Task(
        trial=trial,
        digest=digest,
        parent_digests=tuple(digests[parent] for parent in trial.parents),
        parent_weights=tuple(weight for weight in weights if weight is not None),
        schedule=schedule,
        data_root=data_root,
        checkpoint=store.checkpoint_path(digest),
        keep_weights=keep,
    )


def _submit(pool: ProcessPoolExecutor, task: Task) -> Future:
    try:
        with _no_interrupt():
            return pool.submit(_work, task)
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


def _answer(future: Future) -> tuple[Record, bytes | None]:
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
