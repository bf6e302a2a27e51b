"""The door of .beton files, on files packed by hand: FFCV is not needed."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from mlptheory.base import DamagedFileError, InputError, MissingDataError
from mlptheory.data.beton_layout import read_layout

PAGE = 4096
IMAGE, INT, FLOAT, BYTES, ARRAY, JSON, TENSOR = 2, 1, 0, 3, 4, 5, 6
HEADER, FIELD, ENTRY, PIECE = 24, 1 + 16 + 1024, 24, 24
SIZE, SAMPLES = (2, 3), 4
PIXELS = 3 * SIZE[0] * SIZE[1]


def header(version=2, fields=2, page=PAGE, samples=SAMPLES, table=2 * PAGE):
    return struct.pack("<HHIQQ", version, fields, page, samples, table)


def field(kind, name):
    return struct.pack("<B16s1024s", kind, name.encode(), b"")


def entry(index, mode=1, width=SIZE[1], height=SIZE[0], pointer=None):
    place = PAGE + index * PIXELS if pointer is None else pointer
    # The image's entry is packed; the label's is aligned to 8 bytes.
    return struct.pack("<BHHQ", mode, width, height, place) + bytes(3) + struct.pack("<q", index)


def piece(index, pointer=None, size=PIXELS):
    return struct.pack("<QQQ", index, PAGE + index * PIXELS if pointer is None else pointer, size)


def beton(head=None, fields=None, entries=None, pieces=None):
    """Pack a file of four examples, of which any part may be given."""
    fields = fields or [field(IMAGE, "image"), field(INT, "label")]
    entries = entries or [entry(index) for index in range(SAMPLES)]
    pieces = pieces or [piece(index) for index in range(SAMPLES)]
    content = (head or header()) + b"".join(fields) + b"".join(entries)
    pixels = bytes(range(SAMPLES * PIXELS))
    content = content.ljust(PAGE, b"\0") + pixels.ljust(PAGE, b"\0")
    return content + b"".join(pieces)


def changed(index, **change):
    return [entry(i, **(change if i == index else {})) for i in range(SAMPLES)]


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "a.beton"
        path.write_bytes(content)
        return path

    return write


def test_reads_what_was_packed(written):
    layout = read_layout(written(beton()))
    assert (layout.samples, layout.kinds) == (SAMPLES, {"image": IMAGE, "label": INT})
    assert layout.entry("label").tolist() == [0, 1, 2, 3]
    image = layout.entry("image")
    assert {tuple(one.tolist()[:3]) for one in image} == {(1, SIZE[1], SIZE[0])}
    assert image["data_ptr"].tolist() == layout.pointers.tolist() == [PAGE + i * PIXELS for i in range(SAMPLES)]
    assert layout.sizes.tolist() == [PIXELS] * SAMPLES


def test_pieces_in_any_order_and_images_that_share_one(written):
    pieces = [piece(index) for index in (2, 0, 3, 1)]
    layout = read_layout(written(beton(pieces=pieces, entries=changed(3, pointer=PAGE))))
    assert layout.pointers.tolist() == sorted(layout.pointers.tolist())
    assert layout.entry("image")["data_ptr"][3] == PAGE


def test_fields_may_stand_in_any_order_beside_others(written):
    fields = [field(INT, "label"), field(FLOAT, "weight"), field(IMAGE, "image")]
    rows = [struct.pack("<qd", i, 0.5) + entry(i)[:16] for i in range(SAMPLES)]
    layout = read_layout(written(beton(head=header(fields=3), fields=fields, entries=rows)))
    assert list(layout.kinds) == ["label", "weight", "image"]
    assert layout.entry("label").tolist() == [0, 1, 2, 3]
    assert layout.entry("image")["width"].tolist() == [SIZE[1]] * SAMPLES


@pytest.mark.parametrize("length", [0, 1, 23, 24, 100, HEADER + 2 * FIELD, HEADER + 2 * FIELD + 4 * ENTRY - 1])
def test_a_file_cut_at_its_head_is_damaged(written, length):
    with pytest.raises(DamagedFileError, match=rf"a\.beton: {length} bytes: expected "):
        read_layout(written(beton()[:length]))


@pytest.mark.parametrize("cut", [1, 23, 25, 4 * PIECE, 4 * PIECE + 1, PAGE])
def test_a_file_cut_at_its_end_is_damaged(written, cut):
    with pytest.raises(DamagedFileError, match="cut short"):
        read_layout(written(beton()[:-cut]))


def test_a_file_cut_between_pieces_misses_one(written):
    with pytest.raises(DamagedFileError, match="example 3 points to no data of this file"):
        read_layout(written(beton()[:-PIECE]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (beton(head=header(version=1)), "version 1: expected a .beton file of version 2"),
        (beton(head=header(version=3)), "version 3: expected a .beton file of version 2"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "expected a .beton file of version 2"),
        (b"PK\x03\x04" + bytes(100), "expected a .beton file of version 2"),
        (beton(head=header(table=0)), "whoever wrote it was stopped before the end"),
        (beton(head=header(samples=0)), "with at least one of each"),
        (beton(head=header(fields=0)), "with at least one of each"),
        (beton(head=header(page=PAGE + 1)), "pages of a power of two"),
        (beton(head=header(page=0)), "pages of a power of two"),
        (beton(head=header(samples=2**60)), "cut short"),
        (beton(head=header(fields=200)), "cut short"),
        (beton(head=header(table=2**63)), "cut short"),
        (beton(head=header(table=HEADER)), "cut short"),
        (beton(fields=[field(IMAGE, "image"), field(255, "label")]), "'label' of type 255"),
        (beton(fields=[field(IMAGE, "image"), field(IMAGE, "image")]), "names once each"),
        (beton(entries=changed(2, mode=2)), "example 2 is neither raw nor JPEG"),
        (beton(entries=changed(1, width=0)), "example 1 has no pixels"),
        (beton(entries=changed(1, width=4)), "example 1 has more or fewer bytes than pixels"),
        (beton(entries=changed(3, width=65535, height=65535)), "example 3 has more or fewer bytes than pixels"),
        (beton(entries=changed(1, pointer=PAGE + 1)), "example 1 points to no data of this file"),
        (beton(entries=changed(0, pointer=2**64 - 1)), "example 0 points to no data of this file"),
        (beton(pieces=[piece(0, size=PAGE + 1), *map(piece, range(1, 4))]), "outside of their place"),
        (beton(pieces=[piece(0, size=2**64 - 1), *map(piece, range(1, 4))]), "outside of their place"),
        (beton(pieces=[piece(0, pointer=10), *map(piece, range(4))]), "outside of their place"),
        (beton(pieces=[piece(0, pointer=2**64 - 1), *map(piece, range(4))]), "outside of their place"),
    ],
)
def test_damage_is_named(written, content, reason):
    with pytest.raises(DamagedFileError, match=r"a\.beton") as error:
        read_layout(written(content))
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        [field(IMAGE, "picture"), field(INT, "label")],
        [field(INT, "image"), field(INT, "label")],
        [field(IMAGE, "image"), field(INT, "class")],
        [field(IMAGE, "image"), field(FLOAT, "label")],
        [field(IMAGE, "image"), field(BYTES, "label")],
    ],
)
def test_fields_that_are_not_read_are_refused(written, fields):
    wide = [row + bytes(8) for row in changed(0)]
    with pytest.raises(InputError, match="'image', an RGBImageField, and 'label', an IntField") as error:
        read_layout(written(beton(fields=fields, entries=wide)))
    assert not isinstance(error.value, DamagedFileError)


def test_no_file_of_random_bytes_is_taken_for_one(written):
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(beton())
        for place in random.integers(0, HEADER + 2 * FIELD + 4 * ENTRY, 8):
            content[place] = random.integers(256)
        try:
            layout = read_layout(written(bytes(content)))
        except InputError:
            continue
        image = layout.entry("image")
        ends = layout.pointers + layout.sizes
        assert ends.max() <= 2 * PAGE
        raw = image["mode"] == 1
        assert (
            layout.size_of(image["data_ptr"])[raw] == 3 * image["width"].astype(int)[raw] * image["height"][raw]
        ).all()


def test_no_file(tmp_path):
    with pytest.raises(MissingDataError, match=r"expected a \.beton file, found none"):
        read_layout(tmp_path / "none.beton")
    with pytest.raises(InputError, match="found a folder or no plain file"):
        read_layout(tmp_path)
    if os.name == "posix":
        pipe = tmp_path / "pipe.beton"
        os.mkfifo(pipe)
        with pytest.raises(InputError, match="found a folder or no plain file"):
            read_layout(pipe)
