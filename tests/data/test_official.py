"""`mlptheory data get` on archives of the official form, through the official loaders, from a server on loopback."""

import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest

from mlptheory.cli import main
from mlptheory.data import DownloadError, download, load
from mlptheory.data.sources import SOURCES

FILES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]


def cifar10_archive(labels: np.ndarray) -> bytes:
    """CIFAR-10 of black images, which take no room."""
    rows = np.zeros((10_000, 3073), dtype=np.uint8)
    rows[:, 0] = labels
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name in FILES:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = rows.size
            tar.addfile(info, io.BytesIO(rows.tobytes()))
    return out.getvalue()


@pytest.fixture(scope="module")
def archive() -> bytes:
    return cifar10_archive(np.arange(10_000) % 10)


@pytest.fixture
def offered(server, answer, monkeypatch):
    """Have the server offer an archive, and its checksums taken for the publisher's."""

    def offer(name: str, content: bytes) -> str:
        server.answers = [answer(content)]
        checksums = {"sha256": hashlib.sha256(content).hexdigest()}
        official = SOURCES[name]
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(official, size=len(content), checksums=checksums))
        return server.url

    return offer


def test_the_command_fetches_and_says_where(offered, archive, server, tmp_path, capsys, monkeypatch):
    url = offered("cifar10", archive)
    assert main(["data", "get", "cifar10", "--mirror", url, "--data-root", str(tmp_path)]) == 0
    folder = tmp_path / "cifar-10-batches-bin"
    assert capsys.readouterr().out == f"cifar10: whole in {folder}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-bin"]
    assert len(load("cifar10", "train", tmp_path)) == 50_000
    # Where $MLPTHEORY_DATA says so, it is found without a word, and not fetched again.
    monkeypatch.setenv("MLPTHEORY_DATA", str(tmp_path))
    assert main(["data", "get", "cifar10"]) == 0
    assert capsys.readouterr().out == f"cifar10: already whole in {folder}\n"
    assert len(server.requests) == 1


def test_classes_of_unequal_size_are_refused(offered, tmp_path):
    url = offered("cifar10", cifar10_archive(np.arange(10_000) % 9))
    with pytest.raises(DownloadError, match=r"refused, .*expected as many examples of each class in 'train'"):
        download("cifar10", tmp_path, mirror=url, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-binary.tar.gz.wrong"]


def test_a_server_at_fault_is_told_on_one_line(server, answer, tmp_path, capsys):
    server.answers = [answer(b"<html>Log in to the network</html>")]
    assert main(["data", "get", "cifar100", "--mirror", server.url, "--data-root", str(tmp_path)]) == 1
    url = f"{server.url}/cifar-100-binary.tar.gz"
    assert capsys.readouterr().err == f"mlptheory: {url}: expected 168513733 bytes, the server offers 34\n"
    assert list(tmp_path.iterdir()) == []


def test_the_commands_refusals(refused, tmp_path):
    assert "expected one of cifar10, cifar100, stl10, tinyimagenet" in refused("data", "get")
    assert "did you mean 'cifar10' or 'cifar100'" in refused("data", "get", "cifar")
    assert "'--miror'" in refused("data", "get", "cifar10", "--miror", "x")
    assert "mirror = 'x': expected an http" in refused("data", "get", "cifar10", "--mirror", "x")
    (tmp_path / "file").touch()
    message = refused("data", "get", "cifar10", "--data-root", str(tmp_path / "file" / "in"))
    assert "--data-root" in message and "expected a folder that can be written" in message


@pytest.mark.parametrize("args", [["data", "get", "--help"], ["data", "get", "stl10", "--help"]], ids=" ".join)
def test_the_commands_help(args, capsys):
    with pytest.raises(SystemExit) as left:
        main(args)
    shown = capsys.readouterr().out
    assert left.value.code == 0
    assert "--mirror" in shown and "--data-root" in shown


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_real_images_come_through_unchanged(offered, cifar_root, tmp_path, name):
    source = SOURCES[name]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        tar.add(cifar_root / source.folder, source.folder)
    url = offered(name, out.getvalue())
    download(name, tmp_path, mirror=url, progress=False)
    for split in ("train", "test"):
        assert load(name, split, tmp_path).digest == load(name, split, cifar_root).digest
