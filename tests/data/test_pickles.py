import io
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from mlptheory.base import DamagedFileError
from mlptheory.data.pickles import read_pickle

PIXELS = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)


def write(path, content, protocol=2):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def read(path):
    return read_pickle(path, 0, 100_000)


def python2_pickle():
    """The bytes that Python 2 and NumPy 1 wrote: byte strings, numpy.core, a dtype with integer flags."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
        + b"(K\x01" + b"K\x02M\x00\x0c\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + text(b"|") + b"NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", PIXELS.size) + PIXELS.tobytes() + b"tb"
    )  # fmt: skip
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](K\x07K\x09e" + b"u."


@pytest.mark.parametrize("array", [PIXELS, np.asfortranarray(PIXELS)], ids=["C", "Fortran"])
def test_arrays_lists_and_texts_come_back(tmp_path, array):
    found = read(write(tmp_path / "a", {b"data": array, "labels": [3, 1], b"batch_label": b"one"}))
    assert np.array_equal(found["data"], PIXELS) and found["data"].dtype == np.uint8
    assert (found["labels"], found["batch_label"]) == ([3, 1], b"one")


def test_the_official_form_of_python_2(tmp_path):
    content = python2_pickle()
    assert pickle.loads(content, encoding="bytes")[b"labels"] == [7, 9]
    found = read(write(tmp_path / "a", content))
    assert np.array_equal(found["data"], PIXELS)
    assert found["labels"] == [7, 9]


def test_a_pickle_that_calls_code_is_refused(tmp_path):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = write(tmp_path / "evil", {"data": Attack()}, protocol)
        with pytest.raises(DamagedFileError, match=r"evil: refused, as it calls \w+\.mkdir"):
            read(path)
    assert not witness.exists()
    # The attack is real: the standard unpickler runs it.
    pickle.loads(path.read_bytes())
    assert witness.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "__builtin__ getattr",
        "numpy ndarray.tofile",
        "numpy load",
        "copyreg __newobj__",
        "_codecs decode",
    ],
)
def test_no_other_name_is_answered(tmp_path, name):
    content = b"\x80\x04\x8c" + bytes([len(name.split()[0])]) + name.split()[0].encode()
    content += b"\x8c" + bytes([len(name.split()[1])]) + name.split()[1].encode() + b"\x93."
    with pytest.raises(DamagedFileError, match="refused, as it calls " + name.replace(" ", ".").replace(".", r"\.")):
        read(write(tmp_path / "evil", content))


@pytest.mark.parametrize(
    "state", [b"}U\x01xK\x01s", b"N}U\x08__call__K\x01s\x86", b"N}U\x0c__setstate__K\x01s\x86"], ids=repr
)
@pytest.mark.parametrize("name", [b"numpy\ndtype", b"_codecs\nencode", b"numpy.core.multiarray\n_reconstruct"])
def test_stand_ins_cannot_be_altered(tmp_path, name, state):
    content = b"\x80\x02c" + name + b"\n" + state + b"b."
    pickletools.dis(content, out=io.StringIO())
    with pytest.raises(DamagedFileError, match="garbled"):
        read(write(tmp_path / "evil", content))
    assert np.array_equal(read(write(tmp_path / "good", {"data": PIXELS}))["data"], PIXELS)


@pytest.mark.parametrize(
    "content",
    [
        {"data": PIXELS.astype(np.float32)},
        {"data": np.array(["a", None], dtype=object)},
        b"",
        b"not a pickle at all",
        b"\x80\x02}",
        b"\x80\x02" + b"(" * 50_000,
    ],
    ids=["floats", "objects", "empty", "text", "unfinished", "marks"],
)
def test_garbled_files(tmp_path, content):
    with pytest.raises(DamagedFileError, match="odd: expected a whole pickle") as error:
        read(write(tmp_path / "odd", content))
    assert "\n" not in str(error.value)


def test_a_cut_at_any_place_and_bytes_after_the_end(tmp_path):
    content = pickle.dumps({"data": PIXELS, "labels": [3, 1]}, 2)
    for length in [*range(0, len(content), 97), len(content) - 1]:
        with pytest.raises(DamagedFileError, match=f"found {length} bytes"):
            read(write(tmp_path / "cut", content[:length]))
    with pytest.raises(DamagedFileError, match=f"expected a pickle of {len(content)} bytes, found {len(content) + 1}"):
        read(write(tmp_path / "long", content + b"."))


def test_size_and_kind(tmp_path):
    path = write(tmp_path / "list", [1, 2])
    with pytest.raises(DamagedFileError, match="expected a dictionary, found list"):
        read(path)
    size = path.stat().st_size
    with pytest.raises(DamagedFileError, match=f"expected 100 to 200 bytes, found {size}"):
        read_pickle(path, 100, 200)
