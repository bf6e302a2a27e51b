"""Gaps closed in place: beside NumPy's deletion, and killed at each of its writes."""

import zlib

import numpy as np
import pytest

from mlptheory.base import DamagedFileError
from mlptheory.data import settling
from mlptheory.data.decoding_workers import DecodedChunk
from mlptheory.data.listing import Listing

IMAGE, CHUNK = 12, 4


class KilledError(Exception):
    pass


def made(folder, files, gaps):
    """Write decoded images, zeros in the gaps; return the file, the listing, the chunks and what is to remain."""
    images = np.random.default_rng(files).integers(0, 256, (files, IMAGE), dtype=np.uint8)
    images[list(gaps)] = 0
    path = folder / "images.bin"
    path.write_bytes(images.tobytes())
    chunks = -(-files // CHUNK)
    listing = Listing(
        path=folder / "files.bin", chunk=CHUNK, per_class=(files,), digest="", offsets=(), keys=("",) * chunks
    )
    finished = {}
    for chunk in range(chunks):
        start, stop = listing.bounds(chunk)
        own = tuple((gap - start, "broken") for gap in sorted(gaps) if start <= gap < stop)
        finished[chunk] = DecodedChunk(chunk=chunk, checksum=zlib.crc32(images[start:stop].tobytes()), unreadable=own)
    return path, listing, finished, np.delete(images, list(gaps), axis=0).tobytes()


GAPS = [(), (0,), (22,), (3, 4), (0, 1, 2, 3), (4, 5, 6, 7, 8), (20, 21, 22), (1, 5, 6, 13, 14, 22), range(22)]


def settled(path, listing, finished):
    seen = []
    pass_ = settling.Settling(path, listing, finished, IMAGE)
    pass_.run(lambda content: seen.append(bytes(content)))
    assert pass_.kept * IMAGE == len(b"".join(seen))
    return b"".join(seen)


@pytest.mark.parametrize("gaps", GAPS)
def test_the_rest_remains_in_order(tmp_path, gaps):
    path, listing, finished, expected = made(tmp_path, 23, gaps)
    assert settled(path, listing, finished) == expected == path.read_bytes()
    assert settling.moving_file(tmp_path).exists() == bool(gaps)


@pytest.mark.parametrize("gaps", GAPS[1:])
def test_killed_at_any_write_it_goes_on(tmp_path, monkeypatch, gaps):
    """Each write of images is cut after none, half or all of its bytes, and again at the next one after resuming."""
    path, listing, finished, expected = made(tmp_path, 23, gaps)
    whole = path.read_bytes()
    real = settling.write_at
    kills = 0
    for at in range(7):
        for share in (0.0, 0.5, 1.0):
            path.write_bytes(whole)
            settling.moving_file(tmp_path).unlink(missing_ok=True)
            left = [at, 1]

            def write(handle, content, position, left=left, share=share):
                if left and left[0] == 0:
                    left.pop(0)
                    real(handle, content[: int(share * len(content))], position)
                    raise KilledError
                if left:
                    left[0] -= 1
                real(handle, content, position)

            monkeypatch.setattr(settling, "write_at", write)
            for _ in range(3):
                try:
                    found = settled(path, listing, finished)
                    break
                except KilledError:
                    kills += 1
            assert found == expected == path.read_bytes()
    assert kills >= 3


def test_killed_before_a_chunk_is_written_beside(tmp_path, monkeypatch):
    path, listing, finished, expected = made(tmp_path, 23, (2, 9))
    real, calls = settling.write_atomically, []

    def write(target, content):
        calls.append(target)
        if len(calls) == 3:
            raise KilledError
        real(target, content)

    monkeypatch.setattr(settling, "write_atomically", write)
    with pytest.raises(KilledError):
        settled(path, listing, finished)
    assert settled(path, listing, finished) == expected == path.read_bytes()


def test_other_bytes_than_were_written(tmp_path):
    path, listing, finished, _ = made(tmp_path, 23, (2,))
    content = bytearray(path.read_bytes())
    content[7 * IMAGE] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"images\.bin: images 4 to 7 are not what was written; remove"):
        settled(path, listing, finished)
    path.write_bytes(content[: 5 * IMAGE])
    with pytest.raises(DamagedFileError, match="ends too early"):
        settled(path, listing, finished)
