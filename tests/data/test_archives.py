"""Hostile archives: nothing is written outside the folder, nothing but plain files in it, and not too much."""

import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest

from mlptheory.data.archives import RefusedArchiveError, unpack

CLIMBING = ["../x", "things/../../x", "/x", "//x", "things/./../../x", "..", "..\\x", "C:x", "c:/x", "a\\..\\..\\x"]


@pytest.fixture
def unpacked(tmp_path):
    """Unpack content into a folder, with a witness beside it of what was written outside."""

    def run(content: bytes, *, zipped: bool = False, most_bytes: int = 10**6, most_members: int = 100):
        archive, into = tmp_path / "archive", tmp_path / "deep" / "into"
        archive.write_bytes(content)
        into.mkdir(parents=True)
        try:
            unpack(archive, into, zipped=zipped, most_bytes=most_bytes, most_members=most_members)
        finally:
            assert [path.name for path in tmp_path.iterdir() if path not in (archive, into.parent)] == []
            assert list(into.parent.iterdir()) == [into]
            assert all(path.is_file() or path.is_dir() for path in into.rglob("*"))
            assert not any(path.is_symlink() for path in into.rglob("*"))
        return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}

    return run


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.devmajor, info.devminor = 1, 3
    return info


FILES = {"things/a": b"a" * 3000, "./things/sub/b": b"", "things/c": bytes(2**20 + 1)}
PLAIN = {name.removeprefix("./"): content for name, content in FILES.items()}


def test_plain_files_and_folders(unpacked, tarred):
    assert unpacked(tarred(FILES, (special("things/empty", tarfile.DIRTYPE),)), most_bytes=2 * 10**6) == PLAIN


def test_plain_zips(unpacked, zipped):
    assert unpacked(zipped({"things/": b"", **FILES}), zipped=True, most_bytes=2 * 10**6) == PLAIN


def test_modes_and_owners_are_not_taken_over(unpacked, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("a")
        info.mode, info.uid, info.size = 0o6777, 4242, 1
        tar.addfile(info, io.BytesIO(b"a"))
    unpacked(out.getvalue())
    found = (tmp_path / "deep" / "into" / "a").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert found.st_uid == os.getuid()


@pytest.mark.parametrize("name", CLIMBING)
def test_names_that_lead_out(unpacked, tarred, name):
    with pytest.raises(RefusedArchiveError, match="would be written outside its folder"):
        unpacked(tarred({"things/a": b"a", name: b"x"}))


@pytest.mark.parametrize("name", CLIMBING)
def test_names_that_lead_out_of_a_zip(unpacked, zipped, name):
    with pytest.raises(RefusedArchiveError, match="would be written outside its folder"):
        unpacked(zipped({"things/a": b"a", name: b"x"}), zipped=True)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.SYMTYPE, ".."),
        (tarfile.SYMTYPE, "a"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "things/a"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices(unpacked, tarred, kind, target):
    with pytest.raises(RefusedArchiveError, match="'things/odd' is neither a file nor a folder"):
        unpacked(tarred({"things/a": b"a"}, (special("things/odd", kind, target),)))


def test_a_link_in_a_zip(unpacked, zipped):
    link = zipfile.ZipInfo("things/odd")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(RefusedArchiveError, match="'things/odd' is neither a file nor a folder"):
        unpacked(zipped({"things/a": b"a", link: b"/etc/passwd"}), zipped=True)


@pytest.mark.parametrize("again", ["things/a", "things//a", "./things/a", "things/a/b", "."])
def test_a_name_that_comes_twice(unpacked, tarred, again):
    with pytest.raises(RefusedArchiveError, match="comes twice"):
        unpacked(tarred({"things/a": b"a"}, (tarfile.TarInfo(again),)))


def test_a_folder_in_place_of_a_file(unpacked, tarred):
    with pytest.raises(RefusedArchiveError, match="comes twice, once as a file"):
        unpacked(tarred({"things/a": b"a"}, (special("things/a", tarfile.DIRTYPE),)))


@pytest.mark.parametrize("is_zip", [False, True])
def test_too_many_bytes(unpacked, tarred, zipped, is_zip):
    content = (zipped if is_zip else tarred)({"a": bytes(600), "b": bytes(401)})
    with pytest.raises(RefusedArchiveError, match="more than 1000 bytes"):
        unpacked(content, zipped=is_zip, most_bytes=1000)


def test_too_many_members(unpacked, tarred):
    with pytest.raises(RefusedArchiveError, match="more than 100 members"):
        unpacked(tarred({f"{number}": b"" for number in range(101)}))


def test_a_bomb_of_one_member(unpacked, tarred, tmp_path):
    bomb = tarred({"a": bytes(50 * 2**20)})
    assert len(bomb) < 300_000
    with pytest.raises(RefusedArchiveError, match="more"):
        unpacked(bomb)
    assert sum(path.stat().st_size for path in (tmp_path / "deep" / "into").iterdir()) <= 10**6


def test_a_bomb_in_a_header(unpacked):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 50 * 2**20
    bomb = gzip.compress(header.tobuf() + bytes(header.size), 1)
    with pytest.raises(RefusedArchiveError, match="more bytes than it may have"):
        unpacked(bomb)


def test_a_zip_bomb(unpacked, zipped):
    with pytest.raises(RefusedArchiveError, match="more than 1000000 bytes"):
        unpacked(zipped({"a": bytes(50 * 2**20)}), zipped=True)


def test_a_zip_that_lies_about_its_sizes(unpacked, zipped, tmp_path):
    honest = zipped({"a": bytes(2**20)})
    # The size stands in the header of the member and in the directory at the end.
    lying = honest.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(RefusedArchiveError, match="garbled"):
        unpacked(lying, zipped=True, most_bytes=1000)
    assert (tmp_path / "deep" / "into" / "a").stat().st_size <= 1000


def test_an_encrypted_zip(unpacked, zipped):
    content = bytearray(zipped({"a": b"a"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(RefusedArchiveError, match="encrypted"):
        unpacked(bytes(content), zipped=True)


@pytest.mark.parametrize("is_zip", [False, True])
def test_garbled_bytes(unpacked, tarred, zipped, is_zip):
    content = (zipped if is_zip else tarred)({"a": os.urandom(4000), "b": os.urandom(4000)})
    with pytest.raises(RefusedArchiveError, match="garbled"):
        unpacked(content[: len(content) // 2], zipped=is_zip)


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", bytes(1000)])
@pytest.mark.parametrize("is_zip", [False, True])
def test_no_archive_at_all(unpacked, content, is_zip):
    with pytest.raises(RefusedArchiveError, match="garbled"):
        unpacked(content, zipped=is_zip)


def test_a_flipped_bit_in_a_zip(unpacked, zipped):
    content = bytearray(zipped({"a": bytes(range(256)) * 20}))
    content[50] ^= 1
    with pytest.raises(RefusedArchiveError, match="garbled"):
        unpacked(bytes(content), zipped=True)
