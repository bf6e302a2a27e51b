"""Killed twice on the way, with all its processes, a conversion ends with the bits of one that was left alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from mlptheory.data import verify_store
from mlptheory.data.class_folder import find_splits
from mlptheory.data.decoding_workers import Decoding, decode_chunks, wait_for_workers
from mlptheory.data.listing import list_files
from tests.data.image_files import break_files, make_folder

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
resource = pytest.importorskip("resource")

CONVERT = """
if __name__ == "__main__":
    import sys
    from pathlib import Path
    from mlptheory.data.class_folder import find_splits
    from mlptheory.data.folder_conversion import FolderConversion

    folder, out, resolution, workers, chunk = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    try:
        FolderConversion(folder=find_splits(Path(folder))["train"], target=out / "train.store", name="x", split="train",
                         resolution=resolution, workers=workers, allow_unreadable=0.01, chunk=chunk,
                         progress=False).run()
    except OSError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "convert.py").write_text(CONVERT)
    running = []

    def run(folder, out, *, resolution=16, workers=2, chunk=16, file_limit=None):
        out.mkdir(exist_ok=True)

        def limit():
            if file_limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        command = [sys.executable, str(tmp_path / "convert.py"), str(folder), str(out)]
        process = subprocess.Popen(
            [*command, str(resolution), str(workers), str(chunk)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def chunks(out):
    with contextlib.suppress(FileNotFoundError):
        return (out / ".train.store.converting" / "journal.jsonl").read_bytes().count(b"\n")
    return 0


def kill_after(process, out, count, whole_group=True):
    while chunks(out) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    return chunks(out)


def finish(process):
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said


def content(out):
    return {path.name: path.read_bytes() for path in (out / "train.store").iterdir()}


def test_killed_twice(start, tmp_path):
    paths = make_folder(tmp_path / "images", 300)
    break_files([paths[40], paths[151], paths[299]])
    whole, out = tmp_path / "whole", tmp_path / "out"
    finish(start(tmp_path / "images", whole, workers=1))
    first = kill_after(start(tmp_path / "images", out), out, 3)
    # The second time the first process alone: the others end by themselves, and are waited for.
    second = kill_after(start(tmp_path / "images", out), out, first + 3, whole_group=False)
    assert 3 <= first < second < 19
    assert not (out / "train.store").exists()
    finish(start(tmp_path / "images", out))
    assert content(out) == content(whole)
    assert len(verify_store(out / "train.store")) == 297
    assert {path.name for path in out.iterdir()} == {"train.store", "train.unreadable.txt"}


def test_a_disk_that_is_full_from_the_start(start, tmp_path):
    """A limit on the size of files stands for the end of the disk."""
    make_folder(tmp_path / "images", 60)
    out = tmp_path / "out"
    process = start(tmp_path / "images", out, resolution=64, file_limit=3 * 64 * 64 * 59)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 1 and "OSError" in said and "Traceback" not in said
    assert not (out / "train.store").exists()
    finish(start(tmp_path / "images", out, resolution=64))
    finish(start(tmp_path / "images", tmp_path / "whole", resolution=64))
    assert content(out) == content(tmp_path / "whole")


@pytest.fixture
def decoding(tmp_path):
    """60 images in chunks of 4, and a file for them."""
    make_folder(tmp_path / "images", 60)
    listing = list_files(
        find_splits(tmp_path / "images")["train"], tmp_path / "files.bin", chunk=4, every_class=True, progress=False
    )
    (tmp_path / "images.bin").touch()
    return Decoding(folder=tmp_path / "images", listing=listing, images=tmp_path / "images.bin", resolution=8)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_a_disk_that_is_full_while_images_are_written(decoding):
    found = decode_chunks(decoding, range(15), workers=1)
    next(found)
    (worker,) = multiprocessing.active_children()
    most = 10 * 4 * 3 * 8 * 8
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (most, most))
    with pytest.raises(OSError, match="File too large"):
        list(found)
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_named(decoding, tmp_path):
    found = decode_chunks(decoding, range(15), workers=1)
    assert next(found).chunk == 0 and (tmp_path / "worker-0.lock").exists()
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(ChildProcessError, match=r"that decoded images ended with code -9; what is decoded is kept"):
        list(found)
    wait_for_workers(tmp_path)
    assert not (tmp_path / "worker-0.lock").exists()


@pytest.mark.slow
def test_ten_thousand_files_of_which_twenty_are_broken(start, tmp_path):
    paths = make_folder(tmp_path / "images", 10_000, classes=20, largest=200)
    break_files(paths[13::500])
    whole, out = tmp_path / "whole", tmp_path / "out"
    first = kill_after(start(tmp_path / "images", out, resolution=64, chunk=128), out, 20)
    assert first < kill_after(start(tmp_path / "images", out, resolution=64, chunk=128), out, 50) < 79
    finish(start(tmp_path / "images", out, resolution=64, chunk=128))
    finish(start(tmp_path / "images", whole, resolution=64, chunk=128))
    assert content(out) == content(whole)
    assert len(verify_store(out / "train.store")) == 9_980
