"""Kill a probe at random moments and type the same command: the result is that of an uninterrupted run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

PROBE = ["probe", "batchsize", "--n", "64", "--model", "B-1/Wi-16", "--batch-sizes", "8", "32", "--lengths", "1", "20"]
PROBE += ["--seeds", "3", "--cnn", "CNN-1/Wi-4", "--lr", "2e-3", "--cnn-lr", "2e-3", "--target-accuracy", "0.4"]
PROBE += ["--lr-policies", "fixed", "tuned", "--lr-grid", "0.25", "2", "64", "--tuning-seeds", "1", "--no-control"]
FIRST, TRIALS = 48, 72
"""Ensembles of MLPs and CNNs by themselves: at the given learning rate and tuning, then all at the tuned ones."""
LIMIT_S = 600


@dataclass
class Ended:
    code: int
    stdout: str
    stderr: str


class Command:
    """A command of mlptheory in a process group of its own, as a terminal starts it, writing to files."""

    def __init__(self, args: list[str], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.files = logs / "stdout", logs / "stderr"
        with self.files[0].open("w") as out, self.files[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlptheory.cli", *args],
                stdout=out,
                stderr=err,
                start_new_session=True,
                # A shell's background job ignores SIGINT, and so would all that these tests start from one.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def wait(self) -> Ended:
        try:
            code = self.process.wait(timeout=LIMIT_S)
        finally:
            self.kill(group=True)
        return Ended(code, *(file.read_text() for file in self.files))

    def kill(self, *, group: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> Ended:
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def wait_until(self, happened) -> bool:
        """Return whether it happened before the command ended."""
        begun = time.monotonic()
        while not happened():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() - begun < LIMIT_S
            time.sleep(0.005)
        return True


def records(out: Path) -> int:
    return len(list((out / "store" / "records").glob("*.json")))


def comparable(out: Path) -> dict:
    payload = json.loads((out / "result.json").read_text())
    assert set(payload) > {"environment", "timing"}
    return {name: part for name, part in payload.items() if name not in ("environment", "timing")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    """The result of a run by one worker that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    ended = Command([*PROBE, "--workers", "1", "--out", str(folder / "out")], folder).wait()
    assert ended.code == 0, ended.stderr
    assert records(folder / "out") == TRIALS
    return comparable(folder / "out")


def run_through_kills(folder: Path, workers: int, kills: int, seed: int) -> int:
    """Kill the command at random moments, then let it end; return how many of the kills hit it at work."""
    draw = random.Random(seed)
    args = [*PROBE, "--workers", str(workers), "--out", str(folder / "out")]
    during_trials = 0
    for number in range(kills):
        command = Command(args, folder)
        before = records(folder / "out")
        # Every third kill comes while Python still starts; the others once trials have been finished.
        wanted = 0 if number % 3 == 2 else draw.randint(1, 2)
        if number == kills // 2:
            # From here on the learning rates are those that tuning chose.
            wanted += max(0, FIRST - before)
        command.wait_until(lambda before=before, wanted=wanted: records(folder / "out") >= before + wanted)
        time.sleep(draw.uniform(0, 0.3 if wanted else 3.0))
        command.kill(group=draw.random() < 0.5)
        kept = records(folder / "out")
        during_trials += 0 < kept < TRIALS
    ended = Command(args, folder).wait()
    assert ended.code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert records(folder / "out") == TRIALS
    return during_trials


def test_two_kills_and_two_workers_change_nothing(uninterrupted, tmp_path):
    assert run_through_kills(tmp_path, workers=2, kills=2, seed=0) >= 1
    assert comparable(tmp_path / "out") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ten_kills_change_nothing(uninterrupted, tmp_path, workers):
    run_through_kills(tmp_path, workers=workers, kills=10, seed=workers)
    assert comparable(tmp_path / "out") == uninterrupted


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(uninterrupted, tmp_path):
    args = [*PROBE, "--workers", "2", "--out", str(tmp_path / "out")]
    command = Command(args, tmp_path)
    assert command.wait_until(lambda: records(tmp_path / "out") >= 2)
    ended = command.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.stderr
    said = "mlptheory: interrupted; finished trials are kept, and the same command goes on"
    assert ended.stderr.splitlines()[-1] == said
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "store" / "records").iterdir()}
    assert 2 <= len(kept) < TRIALS
    assert not (tmp_path / "out" / "result.json").exists()

    ended = Command(args, tmp_path).wait()
    assert ended.code == 0, ended.stderr
    assert f"({len(kept)} finished)" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert comparable(tmp_path / "out") == uninterrupted


def test_ctrl_c_while_workers_start_wakes_none_of_them(tmp_path):
    command = Command([*PROBE, "--workers", "2", "--out", str(tmp_path / "out")], tmp_path)
    # The bar is drawn before the workers are started, which then import for seconds.
    assert command.wait_until(lambda: "trials" in command.files[1].read_text())
    time.sleep(0.5)
    ended = command.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.stderr and "KeyboardInterrupt" not in ended.stderr


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path):
    def train(name: str, steps: int, out: str) -> Command:
        args = ["train", "--data.n", "64", "--model.name", "B-1/Wi-16", "--threads", "1"]
        args += ["--budget.unit", "steps", "--budget.amount", str(steps), "--budget.batch-size", "8"]
        return Command([*args, "--out", str(tmp_path / out)], tmp_path / name)

    def record(out: str) -> dict:
        return json.loads((tmp_path / out / "record.json").read_text())

    assert train("pilot", 4000, "pilot").wait().code == 0
    # A checkpoint is written after a minute; two and a half leave it well behind half of the run.
    steps = int(150 * 4000 / record("pilot")["seconds"])
    command = train("killed", steps, "killed")
    assert command.wait_until(lambda: list((tmp_path / "killed" / "store" / "checkpoints").glob("*.pt")))
    command.kill(group=True)
    assert not (tmp_path / "killed" / "record.json").exists()
    began = time.monotonic()
    assert train("resumed", steps, "killed").wait().code == 0
    sitting_s = time.monotonic() - began
    assert train("whole", steps, "whole").wait().code == 0
    resumed, whole = record("killed"), record("whole")
    assert sitting_s < 0.9 * whole["seconds"], "it began anew"
    assert resumed["seconds"] > 0.7 * whole["seconds"], "the first sitting's time is part of it"
    for each in (resumed, whole):
        del each["environment"], each["seconds"]
    assert resumed == whole
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("killed", "whole")]
    assert weights[0] == weights[1]
