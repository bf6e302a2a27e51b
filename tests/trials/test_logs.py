"""The logs of a run hold the rows of its record's history: while it trains, after a kill, after a second call."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mlptheory.models import ModelConfig
from mlptheory.training import BudgetConfig, DataConfig, OptimizerConfig, Recipe
from mlptheory.trials import run_recipe, single

RECIPE = Recipe(
    data=DataConfig(n=64),
    model=ModelConfig(name="B-1/Wi-16"),
    budget=BudgetConfig(amount=3, batch_size=8),
    precision="float32",
)
COLUMNS = ["trial", "step", "epoch", "quantity", "value"]


def run(out, recipe=RECIPE, **others):
    return run_recipe(recipe, out=out, threads=1, device="cpu", progress=False, **others)


def rows(out):
    """Return (digests, rows without them) of the lines, each of which must be whole."""
    text = (out / "metrics.jsonl").read_text()
    assert text.endswith("\n") or not text
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(list(line) == COLUMNS for line in lines)
    return {line["trial"] for line in lines}, tuple(tuple(line.values())[1:] for line in lines)


def events(out):
    """Return {quantity: [(step, value)]} as TensorBoard itself reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def expected_events(record):
    found = {}
    for step, _, quantity, value in record.history:
        found.setdefault(quantity, []).append((step, float("nan") if value is None else float(np.float32(value))))
    return found


def test_the_lines_are_the_history_and_a_tidy_table(tmp_path):
    record = run(tmp_path)
    digests, found = rows(tmp_path)
    assert digests == {record.digest} and found == record.history
    assert not (tmp_path / "tensorboard").exists()
    table = pd.read_json(tmp_path / "metrics.jsonl", lines=True, precise_float=True)
    assert list(table.columns) == COLUMNS
    assert [str(table[name].dtype) for name in ("step", "epoch", "value")] == ["int64", "int64", "float64"]
    curve = table[table["quantity"] == "train_loss"]
    assert list(curve["step"]) == [8, 16, 24] and list(curve["epoch"]) == [1, 2, 3]
    np.testing.assert_allclose(table["value"], [row[3] for row in record.history], rtol=1e-15)


def test_lines_are_there_while_it_trains(tmp_path, monkeypatch):
    seen, run_trial = [], single.run_trial

    def spied(task, report, follow):
        def look(step, total):
            seen.append((step, rows(tmp_path)[1], events(tmp_path)))
            report(step, total)

        return run_trial(task, look, follow)

    monkeypatch.setattr(single, "run_trial", spied)
    record = run(tmp_path, log="tensorboard")
    assert [step for step, _, _ in seen] == list(range(1, 25))
    for step, found, shown in seen:
        # The callback of a step comes before the epoch that it ends is closed.
        earlier = tuple(row for row in record.history if row[0] < step)
        assert found == earlier
        assert shown == expected_events(replace(record, history=earlier))


def test_what_is_no_number_is_null(tmp_path):
    diverging = replace(
        RECIPE, model=ModelConfig(name="B-1/Wi-16", norm="none"), optimizer=OptimizerConfig(name="sgd", lr=1e30)
    )
    record = run(tmp_path, diverging, log="tensorboard")
    _, found = rows(tmp_path)
    assert record.diverged and found == record.history and None in [row[3] for row in found]
    assert pd.read_json(tmp_path / "metrics.jsonl", lines=True)["value"].isna().any()
    assert events(tmp_path).keys() == expected_events(record).keys()
    for quantity, points in expected_events(record).items():
        np.testing.assert_array_equal(events(tmp_path)[quantity], points)


@pytest.mark.parametrize("left", [None, b"", b"no JSON\n", b'{"trial": "of another recipe"}\n', "doubled", "cut"])
def test_a_finished_run_gets_its_lines_without_training(tmp_path, monkeypatch, left):
    record = run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes({"doubled": 2 * whole, "cut": whole[:-20]}.get(left, left))
    monkeypatch.setattr(single, "run_trial", None)
    assert run(tmp_path) == record
    assert path.read_bytes() == whole


def test_a_new_run_does_not_go_on_with_the_lines_of_another(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"trial": "killed before its record"}\n')
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    record = run(tmp_path, log="tensorboard")
    assert rows(tmp_path) == ({record.digest}, record.history)
    assert (tmp_path / "tensorboard" / "notes.txt").read_text() == "mine"


def test_event_files_hold_the_history(tmp_path):
    record = run(tmp_path, log="tensorboard")
    assert events(tmp_path) == expected_events(record)
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy"} <= events(tmp_path).keys()


def test_event_files_can_be_asked_for_afterwards_and_are_not_doubled(tmp_path, monkeypatch):
    record = run(tmp_path)
    monkeypatch.setattr(single, "run_trial", None)
    for _ in range(2):
        run(tmp_path, log="tensorboard")
        assert events(tmp_path) == expected_events(record)
        assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_logs_change_no_number(tmp_path):
    plain, logged = run(tmp_path / "plain"), run(tmp_path / "logged", log="tensorboard")
    assert replace(plain, seconds=0) == replace(logged, seconds=0)


# Kills

ARGS = ["train", "--data.n", "64", "--model.name", "B-1/Wi-16", "--budget.amount", "40", "--budget.batch-size", "8"]
ARGS += ["--threads", "1", "--device", "cpu", "--precision", "float32", "--log", "tensorboard"]

CHILD = """
import resource, sys, time
import mlptheory.training.loop as loop
import mlptheory.trials.run as run
from mlptheory.cli import main

limit, args = int(sys.argv[1]), sys.argv[2:]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
train, save = run.train, loop.save_checkpoint

def save_once(path, identity, state):
    time.sleep(0.003)
    if not limit and not path.is_file() and state["counts"][2] == 53:
        save(path, identity, state)

loop.save_checkpoint = save_once
run.train = lambda *given, **named: train(*given, **named, checkpoint_every_s=0)
sys.exit(main(args))
"""
"""Trains slowly, keeps one checkpoint within the seventh epoch, and may meet a limit to the size of a file."""


def child(out, limit=0):
    args = [sys.executable, "-c", CHILD, str(limit), *ARGS, "--out", str(out)]
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    run_to_end(out)
    return out


def run_to_end(out):
    """Run the command in a process of its own: what other tests register here is in the digest of a run."""
    command = [sys.executable, "-m", "mlptheory", *ARGS, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def assert_same_logs(out, whole):
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    history = json.loads((out / "record.json").read_text())["history"]
    assert [list(row) for row in rows(out)[1]] == history
    assert events(out) == events(whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_run_leaves_whole_lines_and_goes_on_without_doubles(tmp_path, uninterrupted):
    out = tmp_path / "killed"
    path = out / "metrics.jsonl"
    begun = time.monotonic()
    process = child(out)
    with process:
        try:
            # The checkpoint holds 6 epochs; the kill comes in the 12th or later.
            while not path.is_file() or b'"epoch": 11,' not in path.read_bytes():
                assert process.poll() is None and time.monotonic() - begun < 120
                time.sleep(0.005)
        finally:
            process.kill()
    assert not (out / "record.json").exists()
    _, left = rows(out)
    (checkpoint,) = (out / "store" / "checkpoints").glob("*.pt")
    kept = torch.load(io.BytesIO(checkpoint.read_bytes()[64:]), weights_only=True)["state"]["history"]
    assert len(left) > len(kept) > 0
    torn = tmp_path / "torn"
    shutil.copytree(out, torn)
    with (torn / "metrics.jsonl").open("ab") as file:
        file.write(b'{"trial": "a lin')
    for folder in (out, torn):
        inode = os.stat(folder / "metrics.jsonl").st_ino
        run_to_end(folder)
        assert_same_logs(folder, uninterrupted)
        assert os.stat(folder / "metrics.jsonl").st_ino == inode, "tail -f has lost it"
        assert len(list((folder / "tensorboard").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs POSIX limits")
def test_a_file_that_cannot_grow_ends_the_run_by_name_and_the_next_call_repairs_it(tmp_path, uninterrupted):
    process = child(tmp_path, limit=3000)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in said
    assert said.splitlines()[-1] == f"mlptheory: File too large: {tmp_path / 'metrics.jsonl'}"
    torn = (tmp_path / "metrics.jsonl").read_bytes()
    assert len(torn) == 3000 and not torn.endswith(b"\n")
    run_to_end(tmp_path)
    assert_same_logs(tmp_path, uninterrupted)


# Refusals


def test_unknown_logs_are_refused_with_the_nearest_name(refused, tmp_path):
    message = refused(*ARGS[:-1], "tensorbord", "--out", str(tmp_path / "out"))
    assert "log = 'tensorbord': unknown; did you mean 'tensorboard'?" in message
    assert not (tmp_path / "out").exists()


def test_without_tensorboard_nothing_is_trained(refused, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("tensorboard", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    message = refused(*ARGS, "--out", str(tmp_path / "out"))
    assert "log = 'tensorboard': expected the package tensorboard" in message
    assert "pip install tensorboard" in message
    assert not (tmp_path / "out").exists()
