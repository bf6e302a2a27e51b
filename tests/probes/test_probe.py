import dataclasses
import json
import shutil
import warnings

import pytest

from mlptheory.base import InputError
from mlptheory.measures import count_macs
from mlptheory.models import build
from mlptheory.probes import BatchSize, Probe, probes
from mlptheory.probes.batchsize.tuning import choose
from mlptheory.probes.probe import foresee
from mlptheory.reports import bibtex
from mlptheory.trials import FolderStore, MemoryStore
from mlptheory.trials.progress import progress_bar
from tests.probes.conftest import ALL, FIRST, TINY, comparable


def test_finished_trials_are_not_run_again_and_the_result_is_the_same(tiny_result, tiny_store):
    before = {path: path.stat().st_mtime_ns for path in (tiny_store / "records").iterdir()}
    again = TINY.run(store=tiny_store, workers=2, progress=False)
    assert comparable(again) == comparable(tiny_result)
    assert {path: path.stat().st_mtime_ns for path in (tiny_store / "records").iterdir()} == before
    assert len(before) == ALL


def test_two_workers_and_a_memory_store_give_the_same_result_and_write_nothing(tiny_result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = TINY.run(store=MemoryStore(), workers=2, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert comparable(found) == comparable(tiny_result)


def test_the_table_holds_what_the_records_hold(tiny_result, tiny_store):
    store = FolderStore(tiny_store)
    for row in tiny_result.table.itertuples():
        record = store.get(row.digest)
        assert row.test_accuracy == record.metrics["test_accuracy"]
        assert row.train_loss == record.metrics["train_loss"]
        assert row.steps == row.length * -(-64 // row.trained_batch_size)
        assert row.validation_accuracy == record.metrics["validation_accuracy"]
        assert record.trial["recipe"]["seed"] == row.seed
        assert record.trial["recipe"]["optimizer"]["lr"] == row.lr
        assert record.trial["recipe"]["budget"]["batch_size"] == row.trained_batch_size
        assert row.role == "tuning" or row.distance_from_initialization > 0
    assert not tiny_result.table["diverged"].any()


def test_the_history_belongs_to_its_trial(tiny_result):
    for _index, row in tiny_result.table.query("role == 'run'").iterrows():
        seen = tiny_result.history.query("trial == @_index and quantity == 'test_accuracy'")
        assert seen["epoch"].tolist() == ([0, 1] if row["length"] == 1 else [0, 1, 2, 4, 8, 12])
        assert seen["value"].iloc[-1] == row["test_accuracy"]


def test_a_shorter_run_is_the_beginning_of_a_longer_one_at_a_constant_learning_rate(tiny_result):
    """Same seed and batch size: the two lengths share their first epoch to the bit."""
    for _, pair in tiny_result.table.query("role == 'run'").groupby(["lr", "batch_size", "seed"]):
        assert sorted(pair["length"]) == [1, 12]
        short, long = (
            tiny_result.history.query("trial == @trial and epoch <= 1")[["quantity", "value"]].values.tolist()
            for trial in pair.sort_values("length").index
        )
        assert [row for row in short if row[0] == "train_loss"] == [row for row in long if row[0] == "train_loss"]


def test_the_plan_counts_trials_and_macs_and_says_what_is_left(tiny_result, tiny_store):
    plan, done = TINY.plan(), TINY.plan(store=tiny_store, workers=1)
    assert (plan.trials, done.trials, plan.finished, done.finished) == (ALL, ALL, 0, ALL)
    macs = count_macs(build("B-1/Wi-16", image_size=8, channels=1, num_classes=10), (1, 8, 8))
    assert plan.compute_macs == 3 * macs * 64 * 6 * (1 + 12) * 3
    assert done.seconds < plan.seconds + 5
    assert plan.design == tiny_result.design
    assert 0 < plan.peak_gib < 1
    text = str(plan)
    assert plan.design["digest"][:16] in text and f"{ALL} (0 finished)" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_second_stage_is_at_the_learning_rates_that_the_first_chose(tiny_result):
    table = tiny_result.table
    chosen = choose(TINY, table.iloc[:FIRST])
    later = table.iloc[FIRST:]
    assert set(later["role"]) == {"run"} and set(later["policy"]) == {"tuned"}
    assert len(later) == ALL - FIRST == len(TINY.follow_up(None))
    for row in later.itertuples():
        assert row.lr == chosen[row.arm, row.length, row.batch_size].lr
        assert row.lr in {2e-3 * multiple for multiple in TINY.lr_grid}
    tuning = table[table["role"] == "tuning"]
    for cell, rows in tuning.groupby(["arm", "length", "batch_size"]):
        assert chosen[cell].lr == rows.set_index("lr")["validation_accuracy"].idxmax()


@pytest.fixture
def after_the_first_stage(tiny_result, tiny_store, tmp_path):
    """A store that holds the first stage's records alone."""
    shutil.copytree(tiny_store, tmp_path / "first")
    for digest in tiny_result.table["digest"].iloc[FIRST:]:
        (tmp_path / "first" / "records" / f"{digest}.json").unlink()
    return FolderStore(tmp_path / "first")


def test_the_plan_foresees_the_second_stage_once_the_first_is_in_the_store(tiny_result, after_the_first_stage):
    plan = TINY.plan(store=after_the_first_stage, workers=1)
    assert (plan.trials, plan.finished) == (ALL, FIRST)
    prepared = TINY._prepare(after_the_first_stage, None, "cpu")
    foreseen = foresee(TINY, prepared, after_the_first_stage)
    assert [foreseen.digests[trial] for trial in foreseen.trials] == tiny_result.table["digest"].tolist()
    undecided = foresee(TINY, prepared, MemoryStore())
    assert len(undecided.distinct()) == ALL
    assert not set(undecided.distinct()) & set(tiny_result.table["digest"].iloc[FIRST:])


def test_a_second_stage_that_was_lost_is_run_again_to_the_same_result(tiny_result, after_the_first_stage):
    again = TINY.run(store=after_the_first_stage, workers=1, progress=False)
    assert comparable(again) == comparable(tiny_result)


def test_a_tuned_run_that_equals_one_at_a_rule_is_that_run(tiny_result):
    """At the length at which neither is looked at more closely; its row says how it came to be."""
    table = tiny_result.table.iloc[:FIRST].copy()
    middle = (table["role"] == "tuning") & (table["lr"] == 4e-3)
    table.loc[middle, "lr"] = 2e-3
    later = TINY.follow_up(table)
    assert {dict(trial.labels)["lr"] for trial in later} == {2e-3}
    prepared = TINY._prepare(MemoryStore(), None, "cpu").with_later(later)
    digests = [prepared.digests[trial] for trial in prepared.trials]
    assert len(digests) == ALL and len(prepared.distinct()) == ALL - 6
    labels = [dict(trial.labels) for trial in prepared.trials]
    for digest, label in list(zip(digests, labels, strict=True))[FIRST:]:
        same = [labels[place]["policy"] for place in range(FIRST) if digests[place] == digest]
        assert same == (["fixed"] if label["length"] == 1 else [])


def test_the_bar_reaches_its_end_and_counts_both_stages(tiny_store, tiny_result, capsys):
    store = FolderStore(tiny_store)
    prepared = TINY._prepare(store, None, "cpu")
    with progress_bar(foresee(TINY, prepared, MemoryStore()).distinct(), None, shown=True) as bar:
        for stage in (prepared, foresee(TINY, prepared, store)):
            bar.watch(stage.distinct())
            for trial in stage.trials:
                bar.report(stage.digests[trial], 0.5)
                bar.report(stage.digests[trial], 1.0)
    assert capsys.readouterr().err.rstrip().split("\r")[-1].startswith(f"{ALL}/{ALL} trials:  100%")


def test_a_pilot_gives_the_power_in_its_spread(tiny_result):
    power = dataclasses.replace(TINY, seeds=8).plan(pilot=tiny_result).power
    assert "pilot's spread" in power["larger-batches-better"]
    assert "without a pilot" in dataclasses.replace(TINY, seeds=8).plan().power["larger-batches-better"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [({"margin": 2.0}, False), ({"seeds": 4}, False), ({"lr": 3e-3}, False), ({"tuning_seeds": 2}, False), ({}, True)],
)
def test_the_design_digest_knows_every_setting(changed, same):
    here = TINY._prepare(MemoryStore(), None, "cpu").design["digest"]
    there = dataclasses.replace(TINY, **changed)._prepare(MemoryStore(), None, "cpu").design["digest"]
    assert (here == there) is same


def test_a_batch_larger_than_the_training_set_is_refused_before_anything_runs():
    probe = dataclasses.replace(TINY, batch_sizes=(8, 65))
    for call in (probe.plan, lambda: probe.run(progress=False)):
        with pytest.raises(InputError, match=r"65.*64"):
            call()


@pytest.mark.parametrize("settings", [{"executor": "ry"}, {"workers": 0}, {"workers": -1}, {"device": "cdua"}])
def test_bad_ways_of_running_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        TINY.run(progress=False, **settings)


def test_a_diverging_design_is_recorded_and_judged_inconclusive():
    probe = dataclasses.replace(TINY, lengths=(2,), optimizer="sgd", lr=1e6, lr_grid=(1.0, 2.0, 4.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = probe.run(workers=1, progress=False)
    assert result.table["diverged"].any()
    assert len(result.diverged) == result.table["diverged"].sum()
    assert (
        result.table.loc[result.table["diverged"], ["test_accuracy", "test_loss", "weight_norm"]].isna().all(axis=None)
    )
    assert {verdict.verdict for verdict in result.verdicts} == {"inconclusive"}
    assert all("diverged" in verdict.reason for verdict in result.verdicts)
    assert set(result.table.query("role == 'run' and policy == 'tuned'")["lr"]) == {1e6}
    assert "NaN" not in json.dumps(result.to_plain())
    result.figure()


def test_references_cover_claim_optimizer_rule_data_and_software():
    keys = BatchSize(dataset="cifar10", model="B-3/Wi-256").references()
    assert {"Bachmann2023", "Chen2023", "Yang2022", "Krizhevsky2009", "mlptheory"} <= set(keys)
    assert not {"Chen2023", "Yang2022"} & set(BatchSize(optimizer="sgd", lr=0.1).references())
    assert bibtex(keys).count("@") == len(set(keys)) == len(keys)


def test_probes_are_listed_with_their_question():
    names = ["augmentation", "batchsize", "locality", "ntk", "permutation", "sharpness", "transfer"]
    assert list(probes) == names
    assert "Bachmann" in probes.summary("batchsize")
    assert all(issubclass(probes[name], Probe) and probes[name].name == name for name in probes)
