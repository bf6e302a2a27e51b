"""Judge many simulated tables in worker processes; how many of them there are changes no outcome."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from mlptheory.base.plugins import load_plugins
from mlptheory.base.random import generator
from mlptheory.probes.scenario import Scenario
from mlptheory.stats import Outcome

if TYPE_CHECKING:
    import pandas as pd

    from mlptheory.probes.probe import Probe

CHUNK = 25
"""Tables that a worker judges before it reports."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_work: tuple[Probe, pd.DataFrame | None]


def judge_tables(
    probe: Probe,
    places: Sequence[tuple[str, Scenario]],
    tables: int,
    *,
    bank: pd.DataFrame | None,
    seed: int,
    workers: int,
    plugins: Sequence[str] = (),
) -> Iterator[tuple[int, list[dict[str, Outcome]]]]:
    """Simulate and judge `tables` tables at every place, and yield their outcomes by claim as they come, in order.

    Parameters
    ----------
    probe : Probe
    places : sequence of (str, Scenario)
        Kind, "simulated" or "bank", and scenario.
    tables : int
        At each place.
    bank : DataFrame or None
        Of real runs, for the places of kind "bank".
    seed : int
        Table k of a place draws from a generator keyed by the seed, kind and scenario, and k.
    workers : int
        Spawned processes of one thread each.
    plugins : sequence of str
        Files that each worker imports first.

    Yields
    ------
    place : int
        Position among the places.
    outcomes : list of dict of str to Outcome
        One a table.

    Raises
    ------
    WorkerDiedError
        If a worker process dies.
    """
    from mlptheory.trials import WorkerDiedError

    chunks = [
        (place, first, min(first + CHUNK, tables)) for place in range(len(places)) for first in range(0, tables, CHUNK)
    ]
    # Classes that a plugin defines can be unpickled only after the worker has loaded it.
    packed = pickle.dumps((probe, bank))
    with _one_thread_each(), contextlib.ExitStack() as stack:
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(tuple(plugins), packed)
        )
        # A pool's own exit would finish every table first, however the caller left.
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        futures = deque(pool.submit(_judge, *places[place], seed, first, last) for place, first, last in chunks)
        for place, _, _ in chunks:
            try:
                yield place, futures.popleft().result()
            except BrokenProcessPool as error:
                raise WorkerDiedError(
                    "a worker process ended while it judged tables, perhaps for want of memory, or as it does not know"
                    " the probe's file (plugins); tables are judged again from the start"
                ) from error


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start here see one thread, which their libraries read when they are loaded."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(plugins: Sequence[str], packed: bytes) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; only the parent acts on it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_plugins(plugins)
    _work = pickle.loads(packed)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _judge(kind: str, scenario: Scenario, seed: int, first: int, last: int) -> list[dict[str, Outcome]]:
    probe, bank = _work
    found = []
    for index in range(first, last):
        rng = generator(seed, f"calibration {kind} {scenario.name}", index)
        table = probe.simulate(scenario, rng, bank if kind == "bank" else None)
        truths = probe.truths(scenario, table)
        found.append(
            {
                verdict.id: Outcome(verdict.verdict, verdict.low, verdict.high, verdict.level, truths[verdict.id])
                for verdict in probe.judge(table)
            }
        )
    return found
