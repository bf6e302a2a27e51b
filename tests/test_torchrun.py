"""torchrun on the command line: one voice, one record, and runs that go on after SIGKILL."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

import mlptheory
from mlptheory.trials import Record

HOME = Path(mlptheory.__file__).parents[1]
TRAIN = ["train", "--model.name", "B-1/Wi-16", "--model.dropout", "0.1", "--data.n", "200", "--precision", "float64"]
TRAIN += ["--augmentation.crop-scale", "0.5", "1.0", "--augmentation.flip", "--augmentation.mixup", "0.8"]
TRAIN += ["--optimizer.name", "adamw", "--optimizer.lr", "1e-3", "--device", "cpu", "--threads", "1"]


def environment():
    told = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in told}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)}


def command(processes, arguments):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes else []
    return [sys.executable, "-m", *torchrun, "mlptheory", *map(str, arguments)]


def run(processes, arguments):
    return subprocess.run(
        command(processes, arguments), capture_output=True, text=True, timeout=600, env=environment(), check=False
    )


def ours(stderr):
    """Return the lines that are not torchrun's."""
    return [line for line in stderr.splitlines() if line.startswith("mlptheory:")]


def record(folder):
    (path,) = (folder / "store" / "records").iterdir()
    return Record.from_json(path.read_text())


def assert_same_record(found, expected, tolerance=1e-12):
    assert [row[:3] for row in found.history] == [row[:3] for row in expected.history]
    expected_values = pytest.approx([row[3] for row in expected.history], rel=tolerance, abs=tolerance)
    assert [row[3] for row in found.history] == expected_values
    assert found.predictions == expected.predictions
    assert found.metrics == pytest.approx(expected.metrics, rel=tolerance, abs=tolerance)


def assert_same_weights(found, expected, tolerance=1e-12):
    weights = [safetensors.torch.load_file(folder / "model.safetensors") for folder in (found, expected)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[1].items():
        torch.testing.assert_close(weights[0][name], value, rtol=tolerance, atol=tolerance, msg=name)


def test_two_processes_leave_the_record_of_one(tmp_path):
    arguments = [*TRAIN, "--budget.amount", "2", "--json"]
    several, one = (run(number, [*arguments, "--out", tmp_path / str(number)]) for number in (2, 0))
    assert several.returncode == one.returncode == 0, several.stderr
    assert Record.from_json(several.stdout).digest == record(tmp_path / "2").digest
    found, expected = record(tmp_path / "2"), record(tmp_path / "0")
    assert_same_record(found, expected)
    assert_same_weights(tmp_path / "2", tmp_path / "0")
    assert found.trial["execution"] == {"data_parallel": True, "device": "cpu", "precision": "float64"}
    assert found.environment["processes"] == [2]
    assert "processes" not in expected.environment
    assert list((tmp_path / "2" / "store" / "checkpoints").iterdir()) == []
    lines = [json.loads(line) for line in (tmp_path / "2" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"], line["quantity"], line["value"]) for line in lines] == list(found.history)


def test_what_does_not_run_as_several_says_so_once():
    done = run(2, ["probe", "list"])
    assert done.stdout == ""
    assert done.returncode != 0
    (line,) = ours(done.stderr)
    assert line.startswith("mlptheory: probe: started as one of 2 processes: expected one process")
    assert "exitcode: 2" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--budget.batch-size", "9999"], "mlptheory: batch_size = 9999: expected at most 1197, the size"),
        (["train", "--optimizer.lr", "-1"], "mlptheory: optimizer.lr = -1.0: expected"),
        (["train", "--plugin", "PLUGIN"], "mlptheory: process 1: plugin = "),
        (["reproduce", "missing.toml"], "mlptheory: "),
    ],
)
def test_a_refusal_is_one_line(tmp_path, arguments, said):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import os\nfrom mlptheory.base import InputError\n"
        "if os.environ.get('RANK') == '1':\n    raise InputError('data: not on this machine')\n"
    )
    arguments = [str(plugin) if each == "PLUGIN" else each for each in arguments]
    done = run(2, [*arguments, "--out", tmp_path / "out"])
    line, *lost = ours(done.stderr)
    assert line.startswith(said)
    # Where one process alone refuses, the first may be at work already and find it gone.
    assert len(lost) <= ("process 1" in said)
    assert "exitcode: 2" in done.stderr


def workers_of(process):
    """Return the processes that a torchrun started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def kill_a_worker_after(folder, arguments, processes, seconds):
    """Start a run, kill one of its processes so long after its first checkpoint; return whether that ended it."""
    process = subprocess.Popen(
        command(processes, [*arguments, "--out", folder]),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.poll() is None and not list(folder.glob("store/checkpoints/*.pt")):
            time.sleep(0.05)
        time.sleep(seconds)
        if process.poll() is None:
            os.kill(workers_of(process)[-1], signal.SIGKILL)
        process.wait(timeout=120)
        return process.returncode != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds torchrun's workers in /proc")
def test_killed_runs_go_on_with_any_number_of_processes(tmp_path):
    often = tmp_path / "often.py"
    often.write_text("from mlptheory.training import train\ntrain.__kwdefaults__['checkpoint_every_s'] = 0.0\n")
    arguments = [*TRAIN, "--budget.amount", "30", "--plugin", often]
    assert run(0, [*arguments, "--out", tmp_path / "whole"]).returncode == 0
    killed = tmp_path / "killed"
    draw = random.Random(0)
    assert kill_a_worker_after(killed, arguments, 2, draw.random())
    expected = record(tmp_path / "whole")
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        shutil.copytree(killed, folder)
        assert run(number, [*arguments, "--out", folder]).returncode == 0
        assert record(folder).environment["processes"] == [2, number]
        assert_same_record(record(folder), expected)
        assert_same_weights(folder, tmp_path / "whole")


@pytest.mark.slow
def test_a_reproduction_runs_as_several(tmp_path):
    file = HOME / "experiments" / "figure1" / "b-6_wi-256.toml"
    tables = []
    for number in (2, 1):
        done = run(number, ["reproduce", file, "--miniature", "--out", tmp_path / str(number), "--json"])
        assert done.returncode == 0, done.stderr
        tables.append(json.loads(done.stdout))
    several, one = tables
    assert [run["record"]["digest"] for run in several["runs"]] == [run["record"]["digest"] for run in one["runs"]]
    assert [run["record"]["environment"]["processes"] for run in several["runs"]] == [[2]] * len(several["runs"])
    for found, expected in zip(several["numbers"], one["numbers"], strict=True):
        # Of a few hundred test images, in whatever precision this machine has.
        assert found.pop("measured") == pytest.approx(expected.pop("measured"), abs=3)
        assert found == expected


@pytest.mark.data
def test_cifar10_in_two_processes(cifar_root, tmp_path):
    arguments = ["train", "--data-root", cifar_root, "--data.name", "cifar10", "--data.n", "2000"]
    arguments += ["--model.name", "B-2/Wi-64"]
    arguments += ["--augmentation.crop-scale", "0.4", "1.0", "--augmentation.flip", "--augmentation.mixup", "0.8"]
    arguments += ["--optimizer.name", "adamw", "--optimizer.lr", "1e-3", "--budget.amount", "2"]
    arguments += ["--budget.batch-size", "300", "--precision", "float64", "--device", "cpu"]
    for number in (2, 0):
        assert run(number, [*arguments, "--out", tmp_path / str(number)]).returncode == 0
    assert_same_record(record(tmp_path / "2"), record(tmp_path / "0"))
    assert_same_weights(tmp_path / "2", tmp_path / "0")
