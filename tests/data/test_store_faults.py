"""Writers that are killed or run out of disk, readers of files that change, and processes that end."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch

from mlptheory.base import DamagedFileError, MissingDataError
from mlptheory.data import Dataset, Loader, StoreWriter, open_store, verify_store
from mlptheory.data.mapped_images import MappedImages

posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


def dataset_of(size=64):
    pixels = np.random.default_rng(2).integers(0, 256, (size, 1, 8, 8), dtype=np.uint8)
    labels = torch.arange(size) * 4 // size
    return Dataset(images=torch.from_numpy(pixels), labels=labels, classes=tuple("abcd"), name="toy", split="train")


def stored(path):
    dataset = dataset_of()
    with StoreWriter(path, classes=dataset.classes, name="toy", split="train") as writer:
        writer.append(dataset.images, dataset.labels)
        return writer.finish()


def process(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(code, *arguments):
    running = process(code, *arguments)
    try:
        out, err = running.communicate(timeout=120)
    finally:
        running.kill()
    return running.returncode, out, err


WRITING = """
    import sys, time
    import numpy as np
    from mlptheory.data import StoreWriter
    images = np.zeros((4, 1, 8, 8), dtype=np.uint8)
    with StoreWriter(sys.argv[1], classes=("a",), name="n", split="train") as writer:
        while True:
            writer.append(images, np.zeros(4, dtype=np.int64))
            print(len(writer), flush=True)
            time.sleep(0.01)
"""


@posix
def test_a_killed_writer_leaves_no_store_and_the_next_one_takes_over(tmp_path):
    path = tmp_path / "train.store"
    writing = process(WRITING, path)
    try:
        writing.stdout.readline()
    finally:
        writing.send_signal(signal.SIGKILL)
        writing.communicate()
    assert (tmp_path / ".train.store.part").is_dir()
    with pytest.raises(MissingDataError):
        open_store(path)
    stored(path)
    assert torch.equal(verify_store(path).images, dataset_of().images)
    assert [each.name for each in tmp_path.iterdir()] == ["train.store"]


KILLED_IN_FINISH = """
    import os, signal, sys
    import numpy as np
    from mlptheory.data import StoreWriter, store
    writes = []
    def kill(path, content):
        writes.append(path)
        if len(writes) > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    store.write_atomically = kill
    store.sync_folder = lambda folder: kill(folder, b"")
    with StoreWriter(sys.argv[1], classes=("a",), name="n", split="train") as writer:
        writer.append(np.zeros((4, 1, 8, 8), dtype=np.uint8), np.zeros(4, dtype=np.int64))
        writer.finish()
"""


@posix
@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_while_it_finishes_the_store_is_whole_or_absent(tmp_path, after):
    path = tmp_path / "train.store"
    code, _, err = ended(KILLED_IN_FINISH, path, after)
    assert code == -signal.SIGKILL, err
    if after < 2:
        assert not path.exists()
    else:
        assert len(verify_store(path)) == 4


@posix
def test_a_second_writer_waits_for_the_first(tmp_path):
    path, order = tmp_path / "train.store", []

    def second():
        with pytest.raises(Exception, match="a place where nothing is"):
            stored(path)
        order.append("second")

    dataset = dataset_of()
    with StoreWriter(path, classes=dataset.classes, name="toy", split="train") as writer:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        writer.append(dataset.images, dataset.labels)
        writer.finish()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    verify_store(path)


@posix
def test_a_full_disk_leaves_what_was_there(tmp_path):
    old = stored(tmp_path / "old.store")
    limits, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            stored(tmp_path / "new.store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, action)
    assert [each.name for each in tmp_path.iterdir()] == ["old.store"]
    verify_store(old)


@posix
def test_a_store_that_may_not_be_written_opens(tmp_path):
    path = stored(tmp_path / "train.store")
    for each in path.iterdir():
        each.chmod(0o444)
    path.chmod(0o555)
    try:
        assert torch.equal(verify_store(path).images, dataset_of().images)
    finally:
        path.chmod(0o755)


def test_a_file_that_is_cut_while_it_is_read_is_named_where_it_is_read(tmp_path):
    path = stored(tmp_path / "train.store")
    batches = Loader(open_store(path), batch_size=4, shuffle=False).batches(0)
    next(batches)
    with (path / "images.bin").open("r+b") as file:
        file.truncate(40 * 64)
    with pytest.raises(DamagedFileError, match=r"images\.bin: ends early"):
        list(batches)
    assert "mlptheory-prefetch" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="the system has no such read")
def test_a_disk_that_fails_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    opened = open_store(stored(tmp_path / "a.store"))

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match=r"Input/output error.*images\.bin"):
        list(Loader(opened, batch_size=2).batches(0))


def test_a_file_larger_than_the_memory_opens(tmp_path):
    path, n = tmp_path / "images.bin", 2**41 // 4096
    with path.open("wb") as file:
        try:
            file.truncate(n * 4096)
        except OSError:
            pytest.skip("needs a file system with sparse files of 2 TiB")
        file.seek((n - 1) * 4096)
        file.write(b"\x07" * 4096)
    images = MappedImages.of_file(path, (n, 1, 64, 64))
    assert int(images[n - 1].min()) == 7 and int(images[0].max()) == 0
    assert next(images.batches([np.array([n - 1, 3])])).amax(dim=(1, 2, 3)).tolist() == [7, 0]


STREAMING = """
    import os, sys
    from mlptheory.data import Loader, open_store
    batches = Loader(open_store(sys.argv[1]), batch_size=4).batches(0)
    print(len(next(batches).targets), flush=True)
"""


def test_the_interpreter_ends_with_a_stream_half_read(tmp_path):
    assert ended(STREAMING, stored(tmp_path / "train.store")) == (0, "4\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_ends_and_is_told_that_the_stream_is_not_its_own(tmp_path):
    forking = (
        STREAMING
        + """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        try:
            next(batches)
        except RuntimeError as error:
            print(error, flush=True)
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sum(len(batch.targets) for batch in batches))
"""
    )
    code, out, err = ended(forking, stored(tmp_path / "train.store"))
    assert (code, err) == (0, "")
    assert out == "4\na stream was begun in another process: begin it again after the fork\n7 60\n"
