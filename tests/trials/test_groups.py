"""An ensemble is one unit of work: trained together, recorded one by one, resumed and repeated with the same bits."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.numpy

from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe, train_ensemble
from mlptheory.training.examples import data_digest
from mlptheory.trials import (
    STANDARD_OBSERVERS,
    Digests,
    FolderStore,
    Measurement,
    MemoryStore,
    Record,
    Schedule,
    Trial,
    digest_trials,
    executor,
    plan_schedule,
    run_group,
    run_trial,
    run_trials,
)
from mlptheory.trials.grouping import describe_members
from mlptheory.trials.run import Task

RECIPE = Recipe(
    data=DataConfig(n=64),
    model=ModelConfig(name="B-1/Wi-16"),
    optimizer=OptimizerConfig(lr=1e-3),
    budget=BudgetConfig(amount=2, batch_size=8),
    precision="float32",
)
NORM = (Measurement(name="weight_norm"),)


def member(seed: int, lr: float = 1e-3, **changes) -> Trial:
    recipe = replace(RECIPE, seed=seed, optimizer=OptimizerConfig(lr=lr), **changes)
    return Trial(recipe=recipe, observers=STANDARD_OBSERVERS, measures=NORM)


MEMBERS = [member(0), member(1), member(0, lr=1e-2)]
OTHERS = [member(seed, label_smoothing=0.0) for seed in (0, 1)]
CHILD = Trial(recipe=replace(RECIPE, seed=5, start="parent"), parents=(MEMBERS[1],))
PAIR = Trial(parents=tuple(OTHERS), measures=(Measurement(name="prediction_agreement"),))
DESIGN = [CHILD, *MEMBERS, *OTHERS, PAIR]
SCHEDULE = plan_schedule(DESIGN, device="cpu")
DATA = {"digits": data_digest("digits")}


def digests_of(trials: list[Trial], schedule: Schedule = SCHEDULE) -> Digests:
    return digest_trials(trials, data_digests=DATA, schedule=schedule, code="code")


DIGESTS = digests_of(DESIGN)


def run(trials: list[Trial] = DESIGN, **options) -> list[Record]:
    return list(run_trials(trials, DIGESTS, schedule=SCHEDULE, **{"store": MemoryStore(), **options}))


def tasks(members: list[Trial], checkpoint: Path | None = None) -> list[Task]:
    """The tasks of an ensemble, or of a trial by itself."""
    ensembles = describe_members(members) if len(members) > 1 else (None,)
    return [
        Task(
            trial=trial,
            digest=DIGESTS[trial] if trial in DIGESTS else str(position),
            parent_digests=(),
            parent_weights=(),
            schedule=SCHEDULE,
            data_root=None,
            checkpoint=checkpoint,
            keep_weights=True,
            ensemble=ensemble,
        )
        for position, (trial, ensemble) in enumerate(zip(members, ensembles, strict=True))
    ]


def without_clock(record: Record) -> Record:
    return replace(record, environment={}, seconds=0.0)


def by_digest(records: list[Record]) -> dict[str, Record]:
    assert len({record.digest for record in records}) == len(records)
    return {record.digest: without_clock(record) for record in records}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[FolderStore, list[Record], list[tuple[str, float]]]:
    """The design, run by two workers into a folder: the store, the records as they came, the progress told."""
    store, told = FolderStore(tmp_path_factory.mktemp("ran") / "store"), []
    return store, run(store=store, workers=2, progress=lambda *news: told.append(news)), told


def test_the_design_has_two_ensembles_and_two_trials_by_themselves():
    assert SCHEDULE.groups == ((0,), (1, 2, 3), (4, 5), (6,))
    assert DIGESTS.groups == (tuple(MEMBERS), tuple(OTHERS))


def test_workers_change_no_bit_and_children_come_after_the_group_of_their_parents(ran):
    order = [record.digest for record in ran[1]]
    assert order.index(DIGESTS[CHILD]) > order.index(DIGESTS[MEMBERS[1]])
    assert order.index(DIGESTS[PAIR]) > max(order.index(DIGESTS[each]) for each in OTHERS)
    assert by_digest(run(workers=1)) == by_digest(ran[1])
    here = [record for group in (MEMBERS, OTHERS) for record, _ in run_group(tasks(group))]
    assert by_digest(here).items() <= by_digest(ran[1]).items()


def test_each_member_is_told_its_progress(ran):
    _, records, told = ran
    assert {digest for digest, share in told if share == 1.0} == {record.digest for record in records}


def test_a_record_says_what_it_was_trained_with(ran):
    found = by_digest(ran[1])
    for group in (MEMBERS, OTHERS):
        said = [found[DIGESTS[each]].trial["execution"]["ensemble"] for each in group]
        assert [(each["position"], each["size"]) for each in said] == [(i, len(group)) for i in range(len(group))]
        assert len({each["members"] for each in said}) == 1
    assert "ensemble" not in found[DIGESTS[CHILD]].trial["execution"]


def test_weights_are_kept_of_members_that_are_parents_only(ran):
    kept = {trial for trial in DESIGN if ran[0].get_weights(DIGESTS[trial]) is not None}
    assert kept == {MEMBERS[1], *OTHERS}


def test_a_child_starts_from_the_weights_of_its_parent_in_the_ensemble(ran):
    weights = dict(zip(MEMBERS, [weights for _, weights in run_group(tasks(MEMBERS))], strict=True))[MEMBERS[1]]
    assert ran[0].get_weights(DIGESTS[MEMBERS[1]]) == weights


def test_nothing_of_a_state_in_progress_is_left(ran):
    assert list((ran[0].folder / "checkpoints").iterdir()) == []


def stamps(store: FolderStore) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}


def test_finished_groups_are_not_run_again(ran, monkeypatch):
    store, records, _ = ran
    before = stamps(store)
    monkeypatch.setattr(executor, "ProcessPoolExecutor", None)  # no worker can be started
    assert by_digest(run(store=store)) == by_digest(records)
    assert by_digest(run([*OTHERS], store=store)).keys() == {DIGESTS[each] for each in OTHERS}
    assert stamps(store) == before


def test_of_a_group_with_one_record_missing_all_are_trained_and_one_is_kept(ran, tmp_path):
    store = FolderStore(shutil.copytree(ran[0].folder, tmp_path / "store"))
    lost = DIGESTS[MEMBERS[2]]
    (store.folder / "records" / f"{lost}.json").unlink()
    before, told = stamps(store), []
    records = run(store=store, workers=1, progress=lambda *news: told.append(news))
    assert by_digest(records) == by_digest(ran[1])
    assert records[-1].digest == lost
    assert {name for name, stamp in stamps(store).items() if before.get(name) != stamp} == {f"{lost}.json"}
    assert {digest for digest, _ in told} == {lost}


def test_members_that_are_not_asked_for_come_with_those_that_are(ran):
    found = by_digest(run([MEMBERS[0]], store=ran[0]))
    assert found.keys() == {DIGESTS[each] for each in MEMBERS}


def test_the_same_trial_by_itself_has_another_record_of_like_numbers(ran):
    alone = Schedule(device="cpu", threads=1, precision="float32", groups=())
    digest = digests_of(MEMBERS[:1], alone)[MEMBERS[0]]
    assert digest not in by_digest(ran[1])
    (task,) = tasks(MEMBERS[:1])
    single, grouped = run_trial(task)[0], by_digest(ran[1])[DIGESTS[MEMBERS[0]]]
    assert single.metrics.keys() == grouped.metrics.keys()
    assert [row[:3] for row in single.history] == [row[:3] for row in grouped.history]


def test_in_double_precision_a_member_and_a_trial_by_itself_agree():
    members = [replace(each, recipe=replace(each.recipe, precision="float64")) for each in MEMBERS]
    for trial, (grouped, weights) in zip(members, run_group(tasks(members)), strict=True):
        single, own = run_trial(*tasks([trial]))
        assert grouped.metrics == pytest.approx(single.metrics, rel=1e-9)
        assert grouped.predictions == single.predictions
        ours, theirs = safetensors.numpy.load(weights), safetensors.numpy.load(own)
        assert ours.keys() == theirs.keys()
        assert all(ours[name] == pytest.approx(theirs[name], abs=1e-9) for name in ours)


def test_a_groups_seconds_are_shared():
    seconds = [record.seconds for record, _ in run_group(tasks(MEMBERS))]
    assert len(set(seconds)) == 1 and seconds[0] > 0


def known(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if value is not None}


def test_a_member_that_diverges_is_recorded_so_and_the_others_are_as_without_it():
    wild = replace(RECIPE, model=ModelConfig(name="B-1/Wi-16", norm="none"), precision="float64")
    rates = (1e-2, 1e30, 1e-3)
    members = [Trial(recipe=replace(wild, optimizer=OptimizerConfig(name="sgd", lr=lr)), measures=NORM) for lr in rates]
    records = [record for record, _ in run_group(tasks(members))]
    assert [record.diverged is None for record in records] == [True, False, True]
    assert records[1].metrics["test_accuracy"] is None and "weight_norm" not in records[1].metrics
    for trial, record in zip(members, records, strict=True):
        single = run_trial(*tasks([trial]))[0]
        assert record.diverged == single.diverged
        assert known(record) == pytest.approx(known(single), rel=1e-9)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("last_step", [1, 8, 11])
def test_an_interrupted_group_resumes_where_it_stood_and_ends_with_the_same_bits(ran, tmp_path, last_step):
    checkpoint = tmp_path / "state.pt"

    def interrupt(step: int, total: int) -> None:
        if step > last_step:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_ensemble(
            [each.recipe for each in MEMBERS],
            STANDARD_OBSERVERS,
            device="cpu",
            checkpoint=checkpoint,
            checkpoint_every_s=0.0,
            on_step=interrupt,
        )
    steps = []
    resumed = [record for record, _ in run_group(tasks(MEMBERS, checkpoint), lambda step, _: steps.append(step))]
    assert steps[0] == last_step + 1 and steps[-1] == 16
    assert by_digest(resumed).items() <= by_digest(ran[1]).items()


KILLED = """
import functools, pickle, sys, time
from mlptheory.trials import run

def tell(step, total):
    print(step, flush=True)
    time.sleep(0.05)

run.train_ensemble = functools.partial(run.train_ensemble, checkpoint_every_s=0.0)
with open(sys.argv[1], "rb") as file:
    run.run_group(pickle.load(file), tell)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_group_that_was_killed_goes_on_from_its_checkpoint_which_then_is_dropped(ran, tmp_path):
    store = FolderStore(tmp_path / "store")
    (unit,) = executor._units(MEMBERS, DIGESTS)
    checkpoint = store.checkpoint_path(unit.digest)
    (tmp_path / "tasks").write_bytes(pickle.dumps(tasks(MEMBERS, checkpoint)))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "tasks")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(executor.__file__).parents[2])},
    )
    with process:
        while process.stdout.readline() != "9\n":
            assert process.poll() is None
        process.kill()
    before, shares = checkpoint.read_bytes(), []
    begun = run_group(tasks(MEMBERS, checkpoint), lambda step, _: shares.append(step))
    assert 8 <= shares[0] < 16
    checkpoint.write_bytes(before)
    found = by_digest(run([*MEMBERS], store=store, workers=1))
    assert found == by_digest([record for record, _ in begun])
    assert found.items() <= by_digest(ran[1]).items()
    assert not checkpoint.exists()
