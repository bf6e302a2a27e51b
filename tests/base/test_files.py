import hashlib
import json
import math
import os
import stat
from pathlib import Path

import pytest

from mlptheory.base import InputError
from mlptheory.base.files import canonical_json, sha256, writable_folder, write_atomically


@pytest.mark.parametrize(("content", "stored"), [("π = 3", "π = 3".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_content_arrives_as_bytes_or_utf8(tmp_path, content, stored):
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == stored


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / "file", "old, and longer")
    write_atomically(str(tmp_path / "file"), "new")
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch, failing):
    write_atomically(tmp_path / "file", "old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", "new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_content_is_synced_before_it_takes_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "file", "new")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_is_as_readable_as_any_other(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", "x")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "absent" / "file", "x")


def test_writable_folder_is_created_with_its_parents(tmp_path):
    folder = writable_folder("out", tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b" and folder.is_dir()
    assert list(folder.iterdir()) == []
    assert writable_folder("out", str(folder)) == folder


def test_a_folder_that_is_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InputError) as caught:
            writable_folder("out", path)
        assert str(caught.value).startswith(f"out = {str(path)!r}: expected a folder that can be written (")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that nobody can write")
def test_an_unwritable_folder_is_refused_by_name():
    # Permissions would not stop the administrator; /proc does.
    with pytest.raises(InputError, match=r"^store = '/proc/mlptheory': expected a folder that can be written"):
        writable_folder("store", "/proc/mlptheory")


def test_canonical_json_depends_on_content_alone():
    one = {"b": [1, 2.5, None, True], "a": {"z": "é", "y": (1,)}}
    other = {"a": {"y": [1], "z": "é"}, "b": (1, 2.5, None, True)}
    assert canonical_json(one) == canonical_json(other) == '{"a":{"y":[1],"z":"é"},"b":[1,2.5,null,true]}'
    assert json.loads(canonical_json(0.1)) == 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": -math.inf}])
def test_canonical_json_has_no_word_for_what_json_lacks(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_sha256_of_text_is_that_of_its_utf8():
    assert sha256("é") == sha256("é".encode()) == hashlib.sha256("é".encode()).hexdigest()
