import json

import numpy as np
import pytest

from mlptheory.base import DamagedFileError, InputError
from mlptheory.data import read_real_labels
from mlptheory.data.real_labels import join_real_labels, label_sets_digest


def _written(folder, content):
    path = folder / "real.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_sets_come_in_the_order_of_the_file(tmp_path):
    path = _written(tmp_path, [[65], [], [970, 795], [0, 0], [999]])
    expected = ({65}, set(), {795, 970}, {0}, {999})
    assert read_real_labels(path) == expected
    assert read_real_labels(str(path)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_encoding_that_json_has_is_read(tmp_path, encoding):
    assert read_real_labels(_written(tmp_path, "[[1], []]\r\n".encode(encoding))) == ({1}, set())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([[1], [2.0], [3]], r"entry 1 = \[2.0\]: expected a list of integers of at least 0"),
        ([[1], [True]], r"entry 1 = \[True\]"),
        ([[1], [-1]], r"entry 1 = \[-1\]"),
        ([[1], ["2"]], r"entry 1 = \['2'\]"),
        ([[1], [None]], r"entry 1 = \[None\]"),
        ([[1], [[2]]], r"entry 1 = \[\[2\]\]"),
        ([[float("nan")]], r"entry 0 = \[nan\]"),
        ([3, [4]], r"entry 0 = 3"),
        ([[4], "12"], r"entry 1 = '12'"),
        ([[4], {"5": 6}], r"entry 1 = \{'5': 6\}"),
        ([[4], None], r"entry 1 = None"),
        ({"0": [1]}, r"expected a JSON list of lists of labels, found \{'0': \[1\]\}"),
        ([], r"expected a JSON list of lists of labels, found \[\]"),
        ("[[1]]", r"expected a JSON list of lists of labels, found '\[\[1\]\]'"),
        (None, r"expected a JSON list of lists of labels, found None"),
    ],
)
def test_an_entry_that_is_no_list_of_labels_is_named(tmp_path, entries, message):
    path = _written(tmp_path, entries)
    with pytest.raises(DamagedFileError, match=message) as refused:
        read_real_labels(path)
    assert str(path) in str(refused.value)


def test_a_long_entry_is_not_shown_whole(tmp_path):
    with pytest.raises(DamagedFileError, match="entry 0") as refused:
        read_real_labels(_written(tmp_path, [[*list(range(5000)), 0.5]]))
    assert len(str(refused.value)) < len(str(tmp_path)) + 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", r"expected JSON, .*found '<!DOCTYPE html>\\n<html>"),
        (b"", "expected JSON, .*found ''"),
        (b"[[1], [2]", r"expected JSON, .*found '\[\[1\], \[2\]'"),
        (b"[[1]] [[2]]", "expected JSON"),
        (b"\x80\x04\x95\x00", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[[" + b"9" * 10_000 + b"]]", "expected JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused_on_one_line(tmp_path, content, message):
    with pytest.raises(DamagedFileError, match=message) as refused:
        read_real_labels(_written(tmp_path, content))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < len(str(tmp_path)) + 400


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"path = '.*real.json': expected the file real.json \(No such file"):
        read_real_labels(tmp_path / "real.json")
    with pytest.raises(InputError, match=r"path = .* \(Is a directory\)"):
        read_real_labels(tmp_path)


SETS = [frozenset({0}), frozenset({1, 2}), frozenset(), frozenset({2})]
PATHS = ["b/val_3.JPEG", "a/val_2.JPEG", "a/val_4.JPEG", "c/deep/val_1.JPEG"]
LABELS = np.array([0, 1, 2, 0])


def test_sets_are_joined_by_the_order_of_the_files_names():
    assert join_real_labels(SETS, PATHS, LABELS, 3) == (SETS[2], SETS[1], SETS[3], SETS[0])


@pytest.mark.parametrize(
    ("sets", "paths", "labels", "classes", "message"),
    [
        (SETS[:3], PATHS, LABELS, 3, "real = 3 sets of labels: expected 4, one for each image"),
        (SETS, ["a/1.JPEG", "b/1.JPEG", "c", "d"], LABELS, 3, "two images have one file name"),
        (SETS, PATHS, LABELS, 2, "a set has label 2: expected labels up to 1, of 2 classes"),
        (SETS, PATHS, (LABELS + 1) % 3, 3, "1 of 3 images have their own label in their set: expected most of them"),
    ],
)
def test_sets_of_other_images_are_refused(sets, paths, labels, classes, message):
    with pytest.raises(InputError, match=message):
        join_real_labels(sets, paths, labels, classes)


def test_their_digest_sees_sets_and_order():
    assert label_sets_digest(SETS) == label_sets_digest([frozenset(sorted(each)[::-1]) for each in SETS])
    assert len({label_sets_digest(each) for each in (SETS, SETS[::-1], SETS[:3], [{0, 1}, *SETS[1:]])}) == 4
