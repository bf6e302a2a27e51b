import dataclasses
import json
import warnings

import pytest

from mlptheory.base import InputError
from mlptheory.measures import count_macs
from mlptheory.models import build
from mlptheory.probes import BatchSize, Probe, probes
from mlptheory.reports import bibtex
from mlptheory.trials import FolderStore, MemoryStore
from tests.probes.conftest import TINY


def comparable(result):
    plain = result.to_plain()
    return json.dumps({name: plain[name] for name in plain if name not in ("environment", "timing")})


def test_finished_trials_are_not_run_again_and_the_result_is_the_same(tiny_result, tiny_store):
    before = {path: path.stat().st_mtime_ns for path in (tiny_store / "records").iterdir()}
    again = TINY.run(store=tiny_store, workers=2, progress=False)
    assert comparable(again) == comparable(tiny_result)
    assert {path: path.stat().st_mtime_ns for path in (tiny_store / "records").iterdir()} == before
    assert len(before) == 18


def test_a_memory_store_gives_the_same_result_and_writes_nothing(tiny_result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = TINY.run(store=MemoryStore(), workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert comparable(found) == comparable(tiny_result)


def test_the_table_holds_what_the_records_hold(tiny_result, tiny_store):
    store = FolderStore(tiny_store)
    for row in tiny_result.table.itertuples():
        record = store.get(row.digest)
        assert row.test_accuracy == record.metrics["test_accuracy"]
        assert row.train_loss == record.metrics["train_loss"]
        assert row.steps == row.epochs * -(-64 // row.trained_batch_size)
        assert record.trial["recipe"]["seed"] == row.seed
        assert record.trial["recipe"]["budget"]["batch_size"] == row.trained_batch_size
        assert row.distance_from_initialization > 0
    assert not tiny_result.table["diverged"].any()


def test_the_history_belongs_to_its_trial(tiny_result):
    for _index, row in tiny_result.table.iterrows():
        seen = tiny_result.history.query("trial == @_index and quantity == 'test_accuracy'")
        assert seen["epoch"].tolist() == ([0, 1] if row["epochs"] == 1 else [0, 1, 2])
        assert seen["value"].iloc[-1] == row["test_accuracy"]


def test_a_shorter_run_is_the_beginning_of_a_longer_one_at_a_constant_learning_rate(tiny_result):
    """Same seed and batch size: the two lengths share their first epoch to the bit."""
    arms = tiny_result.table.query("role == 'arm'")
    for _, pair in arms.groupby(["batch_size", "seed"]):
        short, long = (
            tiny_result.history.query("trial == @trial and epoch <= 1")[["quantity", "value"]].values.tolist()
            for trial in pair.sort_values("epochs").index
        )
        assert [row for row in short if row[0] == "train_loss"] == [row for row in long if row[0] == "train_loss"]


def test_the_plan_counts_trials_and_macs_and_says_what_is_left(tiny_result, tiny_store):
    plan, done = TINY.plan(), TINY.plan(store=tiny_store, workers=1)
    assert (plan.trials, plan.finished, done.finished) == (18, 0, 18)
    macs = count_macs(build("B-1/Wi-16", image_size=8, channels=1, num_classes=10), (1, 8, 8))
    assert plan.compute_macs == 3 * macs * 64 * (6 * 1 + 6 * 2 + 6 * 1)
    assert done.seconds < plan.seconds + 5
    assert plan.design == tiny_result.design
    assert 0 < plan.peak_gib < 1
    text = str(plan)
    assert plan.design["digest"][:16] in text and "18" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_pilot_gives_the_power_in_its_spread(tiny_result):
    power = dataclasses.replace(TINY, seeds=8).plan(pilot=tiny_result).power
    assert "pilot's spread" in power["larger-batches-better"]
    assert "without a pilot" in dataclasses.replace(TINY, seeds=8).plan().power["larger-batches-better"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [({"margin": 2.0}, False), ({"seeds": 4}, False), ({"lr": 2e-3}, False), ({}, True)],
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
    probe = BatchSize(
        n=64, model="B-1/Wi-16", batch_sizes=(8, 32), epochs=(2,), seeds=3, optimizer="sgd", lr=1e6, control=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = probe.run(workers=1, progress=False)
    assert result.table["diverged"].any()
    assert len(result.diverged) == result.table["diverged"].sum()
    assert (
        result.table.loc[result.table["diverged"], ["test_accuracy", "test_loss", "weight_norm"]].isna().all(axis=None)
    )
    assert result.verdicts[0].verdict == "inconclusive" and "diverged" in result.verdicts[0].reason
    assert "NaN" not in json.dumps(result.to_plain())
    result.figure()


def test_references_cover_claim_optimizer_rule_data_and_software():
    keys = BatchSize(dataset="cifar10", model="B-3/Wi-256").references()
    assert {"Bachmann2023", "Chen2023", "Yang2022", "Krizhevsky2009", "mlptheory"} <= set(keys)
    assert not {"Chen2023", "Yang2022"} & set(BatchSize(optimizer="sgd", lr=0.1).references())
    assert bibtex(keys).count("@") == len(set(keys)) == len(keys)


def test_probes_are_listed_with_their_question():
    assert list(probes) == ["batchsize"]
    assert "Bachmann" in probes.summary("batchsize")
    assert issubclass(probes["batchsize"], Probe) and probes["batchsize"].name == "batchsize"
