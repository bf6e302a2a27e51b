"""Workers change no bit, take users' code with them, and neither outlive their parent nor lose what is finished."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlptheory.base.errors import InputError
from mlptheory.base.plugins import load_plugins
from mlptheory.data import datasets
from mlptheory.models import ModelConfig, models
from mlptheory.training import BudgetConfig, DataConfig, Observer, Recipe, observers
from mlptheory.training.examples import data_digest
from mlptheory.trials import (
    Digests,
    FolderStore,
    Measurement,
    MemoryStore,
    Record,
    Schedule,
    Trial,
    WorkerDiedError,
    default_workers,
    digest_trials,
    executor,
    run_trial,
    run_trials,
)
from mlptheory.trials.run import Task

SCHEDULE = Schedule(device="cpu", threads=1, precision="float32", groups=())
RECIPE = Recipe(data=DataConfig(n=64), model=ModelConfig(name="B-1/Wi-16"), budget=BudgetConfig(amount=1, batch_size=8))
PLUGIN = '''
import torch
from torch import nn
from mlptheory.data import Dataset, datasets, load
from mlptheory.models import models
from mlptheory.training import observers

@datasets.register("executor-evens", summary="digits that are even", replace=True)
def evens(split, root):
    """Even digits only."""
    digits = load("digits", split)
    keep = digits.labels % 2 == 0
    return Dataset(
        images=digits.images[keep], labels=digits.labels[keep] // 2, classes=tuple("02468"), name="executor-evens",
        split=split,
    )

@models.register("executor-linear", summary="a linear map", replace=True)
def linear(parsed, config, input_shape, num_classes):
    """A linear map."""
    size = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes))

@observers.register("executor-marker", replace=True)
def marker(state):
    """A number that only this file knows."""
    return {"marker": 417.0}
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "executor_plugin.py"
    file.write_text(PLUGIN)
    load_plugins([str(file)])
    yield str(file)
    for registry, name in (
        (datasets, "executor-evens"),
        (models, "executor-linear"),
        (observers, "executor-marker"),
    ):
        registry._entries.pop(name, None)


@pytest.fixture(scope="module")
def family(plugin) -> dict[str, Trial]:
    """Two parents, a child that starts from one, a pair without a recipe, and one made of a user's own parts."""
    one, two = (Trial(recipe=replace(RECIPE, seed=seed)) for seed in (0, 1))
    child = Trial(recipe=replace(RECIPE, seed=2, start="parent"), parents=(one,), observers=(Observer(name="weights"),))
    pair = Trial(
        parents=(one, two),
        measures=(Measurement(name="weight_distance"), Measurement(name="prediction_agreement")),
    )
    own = Trial(
        recipe=replace(RECIPE, data=DataConfig(name="executor-evens", n=64), model=ModelConfig(name="executor-linear")),
        observers=(Observer(name="executor-marker"),),
    )
    return {"pair": pair, "child": child, "own": own, "one": one, "two": two}


def digests_of(trials: list[Trial], schedule: Schedule = SCHEDULE) -> Digests:
    every = [each for trial in trials for each in trial.with_ancestors()]
    data = {name: data_digest(name) for name in {each.recipe.data.name for each in every if each.recipe}}
    return digest_trials(trials, data_digests=data, schedule=schedule, code="code")


def run(trials: list[Trial], schedule: Schedule = SCHEDULE, **options) -> list[Record]:
    digests = digests_of(trials, schedule)
    return list(run_trials(trials, digests, schedule=schedule, **{"store": MemoryStore(), **options}))


def without_clock(record: Record) -> Record:
    return replace(record, environment={}, seconds=0.0)


def here(trial: Trial) -> tuple[Record, bytes | None]:
    """Run a trial and its parents in this process, with nothing of the executor."""
    parents = [here(parent) for parent in trial.parents]
    digests = digests_of([trial])
    return run_trial(
        Task(
            trial=trial,
            digest=digests[trial],
            parent_digests=tuple(digests[parent] for parent in trial.parents),
            parent_weights=tuple(weights for _, weights in parents if weights is not None),
            schedule=SCHEDULE,
            data_root=None,
            checkpoint=None,
            keep_weights=True,
        )
    )


@pytest.fixture(scope="module")
def ran(family, plugin, tmp_path_factory):
    """The family, run by two workers into a folder: the store, the records as they came, the progress told."""
    store = FolderStore(tmp_path_factory.mktemp("ran") / "store")
    told: list[tuple[str, float, int]] = []
    records = run(
        list(family.values()),
        store=store,
        workers=2,
        plugins=(plugin,),
        progress=lambda digest, share: told.append((digest, share, threading.get_ident())),
    )
    return store, records, told


def test_parents_come_before_their_children(family, ran):
    order = [record.digest for record in ran[1]]
    digests = digests_of(list(family.values()))
    assert len(order) == len(set(order)) == 5
    for trial in family.values():
        assert all(order.index(digests[parent]) < order.index(digests[trial]) for parent in trial.parents)


def test_two_workers_one_worker_and_none_give_the_same_records(family, plugin, ran):
    by_two = {record.digest: without_clock(record) for record in ran[1]}
    by_one = {
        record.digest: without_clock(record) for record in run(list(family.values()), workers=1, plugins=(plugin,))
    }
    by_none = {record.digest: without_clock(record) for record, _ in map(here, family.values())}
    assert by_two == by_one == by_none


def test_a_users_dataset_model_and_observer_work_in_workers(family, ran):
    own = ran[0].get(digests_of(list(family.values()))[family["own"]])
    assert [value for _, _, quantity, value in own.history if quantity == "marker"] == [417.0]
    assert own.data_digest == data_digest("executor-evens")


def test_weights_are_kept_of_parents_only(family, ran):
    digests = digests_of(list(family.values()))
    kept = {name: ran[0].get_weights(digests[trial]) is not None for name, trial in family.items()}
    assert kept == {"one": True, "two": True, "pair": False, "child": False, "own": False}


def test_progress_reaches_one_for_each_trial_in_the_callers_thread(ran):
    _, records, told = ran
    assert {digest for digest, share, _ in told if share == 1.0} == {record.digest for record in records}
    assert all(0 < share <= 1 for _, share, _ in told)
    assert {thread for _, _, thread in told} == {threading.get_ident()}


def stamps(store: FolderStore) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}


def test_finished_trials_are_not_run_again(family, plugin, ran, monkeypatch):
    store, records, _ = ran
    before = stamps(store)
    monkeypatch.setattr(executor, "ProcessPoolExecutor", None)  # no worker can be started
    again = run(list(family.values()), store=store, workers=2, plugins=(plugin,))
    assert sorted(again, key=lambda record: record.digest) == sorted(records, key=lambda record: record.digest)
    assert stamps(store) == before


def test_only_what_is_missing_is_run_and_a_parent_only_for_its_weights(family, ran, tmp_path):
    store = FolderStore(shutil.copytree(ran[0].folder, tmp_path / "store"))
    digests = digests_of(list(family.values()))
    (store.folder / "records" / f"{digests[family['child']]}.json").unlink()
    (store.folder / "weights" / f"{digests[family['one']]}.safetensors").unlink()
    before = stamps(store)
    records = {record.digest: record for record in run([family["child"], family["two"]], store=store, workers=1)}
    changed = {name for name, stamp in stamps(store).items() if before.get(name) != stamp}
    one, child = digests[family["one"]], digests[family["child"]]
    assert changed == {f"{child}.json", f"{one}.json", f"{one}.safetensors", f"{one}.sha256"}
    assert without_clock(records[child]) == without_clock(ran[0].get(child))


def test_equal_trials_run_once(family):
    trial = family["one"]
    labelled = [replace(trial, labels=(("copy", index),)) for index in range(3)]
    assert len(run(labelled, workers=1)) == 1


def test_batches_that_do_not_fit_are_refused_before_any_trial_runs(family, monkeypatch):
    monkeypatch.setattr(executor, "ProcessPoolExecutor", None)
    large = Trial(recipe=replace(RECIPE, budget=BudgetConfig(batch_size=65)))
    with pytest.raises(InputError, match="batch_size = 65"):
        run([family["one"], large])


def test_as_many_workers_as_cores_hold_and_one_on_another_device():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert default_workers(SCHEDULE) == cores
    assert default_workers(replace(SCHEDULE, threads=10_000)) == 1
    assert default_workers(replace(SCHEDULE, device="cuda")) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_worker_is_reported_and_what_is_finished_is_kept(tmp_path):
    short = Trial(recipe=RECIPE)
    long = Trial(recipe=replace(RECIPE, seed=1, budget=BudgetConfig(amount=500, batch_size=8)))
    store = FolderStore(tmp_path / "store")
    finished = []
    with pytest.raises(WorkerDiedError, match="finished trials are kept"):
        for record in run_trials([short, long], digests_of([short, long]), schedule=SCHEDULE, store=store, workers=1):
            finished.append(record)
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
    assert [record.digest for record in finished] == [digests_of([short])[short]]
    assert store.get(finished[0].digest) == finished[0]
    brief = replace(long, recipe=replace(long.recipe, budget=BudgetConfig(amount=1, batch_size=8)))
    assert run([short, brief], store=store, workers=1)[0] == finished[0], "the next call goes on with what is kept"


ENDLESS = """
from dataclasses import replace
from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, Recipe
from mlptheory.trials import Digests, MemoryStore, Schedule, Trial, run_trials

def main():
    recipe = Recipe(
        data=DataConfig(n=64), model=ModelConfig(name="B-1/Wi-16"), budget=BudgetConfig(amount=10**7, batch_size=8)
    )
    trials = [Trial(recipe=replace(recipe, seed=seed)) for seed in range(2)]
    told = set()

    def progress(digest, share):
        told.add(digest)
        if len(told) == 2:
            print("both work", flush=True)

    schedule = Schedule(device="cpu", threads=1, precision="float32", groups=())
    digests = Digests({trial: str(index) for index, trial in enumerate(trials)})
    list(run_trials(trials, digests, schedule=schedule, store=MemoryStore(), workers=2, progress=progress))

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    package = Path(executor.__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(package)},
        start_new_session=True,
    )
    try:
        assert parent.stdout.readline() == "both work\n"
        parent.kill()
        killed = time.monotonic()
        # The workers hold this pipe open too: it ends when the last of them has.
        parent.communicate(timeout=60)
        assert time.monotonic() - killed < 30
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
