"""Killed at any moment, the same command finishes; a full disk leaves nothing half done. In processes of their own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

# Sources and places come as JSON; the check may wait for ever, after it has said that it was reached.
FETCH = """
import json, sys, time
from pathlib import Path
from mlptheory.data.downloads import fetch
from mlptheory.data.sources import Source
from mlptheory.data.transfer import Patience

told = json.loads(sys.argv[1])

def check(folder):
    assert (folder / "last.bin").read_bytes() == b"last"
    if told["wait"]:
        Path(told["wait"]).touch()
        time.sleep(600)

try:
    fetch(Source(**told["source"]), told["root"], check=check, mirror=told["mirror"], progress=False,
          patience=Patience(30, 3, 0.01))
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def start(server, tmp_path):
    running = []

    def run(source, *, wait="", file_limit=None):
        told = {"source": asdict(source), "root": str(tmp_path / "root"), "mirror": server.url, "wait": str(wait)}

        def limit():
            if file_limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, json.dumps(told)], stderr=subprocess.PIPE, text=True, preexec_fn=limit
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def finish(process) -> str:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def kill(process) -> None:
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def assert_whole(root, source, files) -> None:
    assert {path.name for path in root.iterdir()} == {"things"}
    assert {path.name: path.read_bytes() for path in (root / "things").iterdir()} == files


@pytest.fixture
def files():
    draw = random.Random(0)
    return {f"{number}.bin": draw.randbytes(100) for number in range(4000)} | {"last.bin": b"last"}


@pytest.fixture
def content(tarred, files):
    return tarred({f"things/{name}": each for name, each in files.items()})


def test_killed_while_it_fetches(start, server, answer, content, files, source_of, until, tmp_path):
    source, root = source_of(content, most_bytes=10**7), tmp_path / "root"
    server.answers = [answer(content, cut=200_000, stall=True), answer(content)]
    process = start(source)
    part = root / "things.tar.gz.part"
    until(lambda: part.exists() and part.stat().st_size > 0)
    kill(process)
    assert not (root / "things").exists()
    came = part.stat().st_size
    finish(start(source))
    assert 0 < came <= 200_000
    assert server.ranges() == [None, f"bytes={came}-"]
    assert_whole(root, source, files)


def test_killed_while_it_unpacks(start, server, answer, content, files, source_of, until, tmp_path):
    source, root = source_of(content, most_bytes=10**7), tmp_path / "root"
    server.answers = [answer(content)]
    process = start(source)
    until(lambda: (root / ".things.unpacking" / "things" / "9.bin").exists())
    kill(process)
    assert not (root / "things").exists()
    finish(start(source))
    assert server.ranges() == [None], "the archive had come whole"
    assert_whole(root, source, files)


def test_killed_before_the_last_step(start, server, answer, content, files, source_of, until, tmp_path):
    source, root = source_of(content, most_bytes=10**7), tmp_path / "root"
    server.answers = [answer(content)]
    reached = tmp_path / "reached"
    process = start(source, wait=reached)
    until(reached.exists)
    kill(process)
    assert not (root / "things").exists()
    finish(start(source))
    assert_whole(root, source, files)


def test_a_second_process_waits_for_the_first_and_goes_on_if_that_is_killed(
    start, server, answer, content, files, source_of, until, tmp_path
):
    source, root = source_of(content, most_bytes=10**7), tmp_path / "root"
    server.answers = [answer(content)]
    reached = tmp_path / "reached"
    first = start(source, wait=reached)
    until(reached.exists)
    second = start(source)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=1)
    kill(first)
    finish(second)
    assert len(server.requests) == 1
    assert_whole(root, source, files)


@pytest.mark.parametrize("at", ["fetching", "unpacking"])
def test_a_full_disk_is_told_and_leaves_nothing_half_done(start, server, answer, tarred, source_of, tmp_path, at):
    # A limit on the size of a file fails as a full disk does, in the middle of a write.
    large = random.Random(0).randbytes(300_000) if at == "fetching" else bytes(300_000)
    content = tarred({"things/last.bin": b"last", "things/large.bin": large})
    assert (len(content) > 200_000) == (at == "fetching")
    server.answers = [answer(content)]
    process = start(source_of(content), file_limit=200_000)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("\n") == 1 and "File too large" in said
    left = {path.name for path in (tmp_path / "root").iterdir()}
    assert left == (set() if at == "fetching" else {"things.tar.gz.part", "things.tar.gz.part.json"})
    finish(start(source_of(content)))
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"things"}
