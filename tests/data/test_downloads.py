"""Downloads against a server on loopback that is cut, slow, wrong and hostile."""

import random
import threading

import pytest

from mlptheory.base import DamagedFileError, InputError
from mlptheory.data import DownloadError, download
from mlptheory.data.downloads import fetch
from mlptheory.data.sources import SOURCES
from mlptheory.data.transfer import Patience

CONTENT = random.Random(0).randbytes(20_000)
QUICK = Patience(timeout_s=0.3, tries=3, wait_s=0.01)


def check(folder):
    if (folder / "a.bin").read_bytes() != CONTENT:
        raise DamagedFileError(f"{folder}: not what it should be")


@pytest.fixture
def archive(tarred) -> bytes:
    return tarred({"things/a.bin": CONTENT, "things/names.txt": b"a\nb\n"})


@pytest.fixture
def get(server, source_of, archive, tmp_path):
    """Fetch the archive from the server; the source may be another."""

    def run(source=None, **changes):
        arguments = {"check": check, "mirror": server.url, "progress": False, "patience": QUICK} | changes
        return fetch(source or source_of(archive), tmp_path, **arguments)[0]

    return run


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What a good server gives


def test_an_archive_is_fetched_unpacked_and_removed(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive)]
    assert get() == tmp_path / "things"
    check(tmp_path / "things")
    assert names(tmp_path) == ["things"]
    assert names(tmp_path / "things") == ["a.bin", "names.txt"]
    assert [path for path, _ in server.requests] == ["/things.tar.gz"]


def test_what_is_whole_is_left_alone(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive)]
    get()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "things").iterdir()}
    assert get() == tmp_path / "things"
    assert len(server.requests) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "things").iterdir()} == before


def test_the_same_data_in_another_form_will_do(get, server, source_of, archive, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.bin").write_bytes(CONTENT)
    assert get(source_of(archive, other_folders=("other",))) == tmp_path / "other"
    assert server.requests == []


def test_a_damaged_folder_is_kept_aside_and_fetched_again(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive)]
    for number in ("", "2"):
        (tmp_path / "things").mkdir(exist_ok=True)
        (tmp_path / "things" / "a.bin").write_bytes(b"damaged")
        with pytest.warns(UserWarning, match=f"things: damaged .*; set aside as things.damaged{number} and fetched"):
            get()
        check(tmp_path / "things")
        assert (tmp_path / f"things.damaged{number}" / "a.bin").read_bytes() == b"damaged"


def test_a_zip_is_unpacked_too(get, server, answer, zipped, source_of, tmp_path):
    content = zipped({"things/": b"", "things/a.bin": CONTENT})
    server.answers = [answer(content)]
    get(source_of(content, "things.zip"))
    assert names(tmp_path) == ["things"]


def test_an_answer_of_unannounced_length(get, server, answer, archive):
    server.answers = [answer(archive, length=None)]
    check(get())


def test_a_redirect_is_followed_with_its_range(get, server, answer, archive):
    there = answer(status=302, headers={"Location": f"{server.url}/elsewhere"})
    server.answers = [answer(archive, cut=5000), there, answer(archive)]
    check(get())
    assert server.ranges() == [None, "bytes=5000-", "bytes=5000-"]
    assert server.requests[-1][0] == "/elsewhere"


def test_a_proxy_is_taken_from_the_environment(get, server, answer, archive, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.answers = [answer(archive)]
    check(get(mirror="http://things.invalid/"))
    assert server.requests[0][0] == "http://things.invalid/things.tar.gz"


# Cut and slow


def test_a_cut_download_goes_on_where_it_was(get, server, answer, archive):
    server.answers = [answer(archive, cut=7000), answer(archive, cut=3000), answer(archive)]
    check(get())
    assert server.ranges() == [None, "bytes=7000-", "bytes=10000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"one"', '"one"']


def test_a_download_goes_on_by_date_where_the_tag_is_weak(get, server, answer, archive):
    date = "Tue, 20 Oct 2026 00:00:00 GMT"
    headers = {"ETag": 'W/"one"', "Last-Modified": date}
    server.answers = [answer(archive, cut=7000, headers=headers), answer(archive, headers=headers)]
    check(get())
    assert server.requests[1][1]["If-Range"] == date


def test_it_gives_up_keeps_what_came_and_goes_on_at_the_next_call(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive, cut=1000)]
    with pytest.raises(DownloadError, match=f"gave up after 3 tries with 3000 of {len(archive)} bytes, which are kept"):
        get()
    assert names(tmp_path) == ["things.tar.gz.part", "things.tar.gz.part.json"]
    server.answers = [answer(archive)]
    check(get())
    assert server.ranges()[-1] == "bytes=3000-"
    assert names(tmp_path) == ["things"]


def test_tries_that_bring_much_are_not_counted(server, answer, source_of, tarred, get):
    large = tarred({"things/a.bin": CONTENT, "things/b.bin": random.Random(1).randbytes(5 * 2**20)})
    server.answers = [answer(large, cut=2**20)]
    check(get(source_of(large, most_bytes=10**7)))
    assert len(server.requests) == 6


@pytest.mark.parametrize("silent_after", [0, 5000])
def test_silence_is_a_cut(get, server, answer, archive, silent_after):
    server.answers = [answer(archive, cut=silent_after, stall=True), answer(archive)]
    check(get())
    assert server.ranges() == [None, f"bytes={silent_after}-" if silent_after else None]


def test_a_drip_is_a_cut(get, server, answer, archive):
    server.answers = [answer(archive, drip_s=0.02), answer(archive)]
    check(get())
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_passing_errors_are_tried_again(get, server, answer, archive, status):
    server.answers = [answer(status=status), answer(status=status), answer(archive)]
    check(get())


def test_passing_errors_that_stay(get, server, answer, tmp_path):
    server.answers = [answer(status=500)]
    with pytest.raises(DownloadError, match="the server answers 500 Internal Server Error; gave up after 3 tries"):
        get()
    assert len(server.requests) == 3
    assert names(tmp_path) == []


def test_nobody_listens(get, tmp_path):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/things\.tar\.gz: .*refused; gave up after 3 tries"):
        get(mirror=None)


# Wrong


def test_a_server_that_knows_no_ranges_begins_anew(get, server, answer, archive):
    server.answers = [answer(archive, cut=7000), answer(archive, ranges=False)]
    check(get())
    assert server.ranges() == [None, "bytes=7000-"]


def test_a_file_that_changed_begins_anew(get, server, answer, archive):
    other = bytes(len(archive))
    server.answers = [answer(other, cut=7000, headers={"ETag": '"old"'}), answer(archive)]
    check(get())
    assert server.ranges() == [None, "bytes=7000-"]


class IgnoresCondition:
    """Gives the rest of whatever it has now."""

    def start_for(self, headers):
        return int(headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@pytest.mark.parametrize("tags", [("old", "one"), (None, None)], ids=["tagged", "untagged"])
def test_a_file_that_changed_behind_a_server_that_does_not_say_so(get, server, answer, archive, tags, tmp_path):
    lax = type("Lax", (IgnoresCondition, answer), {})
    old, new = ({"ETag": f'"{tag}"'} if tag else {} for tag in tags)
    server.answers = [lax(bytes(len(archive)), cut=7000, headers=old), lax(archive, headers=new)]
    check(get())
    # By the tag it is seen at once; without one, by the checksum of the whole.
    assert server.ranges() == [None, "bytes=7000-", None]
    assert (tmp_path / "things.tar.gz.wrong").exists() == (tags[0] is None)


@pytest.mark.parametrize(
    "span", ["bytes 0-{last}/{size}", "bytes 7000-{last}/{more}", "bytes 7000-8000/{size}", "all", None]
)
def test_a_rest_that_is_not_the_rest_begins_anew(get, server, answer, archive, span):
    size = len(archive)
    odd = {"Content-Range": span.format(last=size - 1, size=size, more=size + 1)} if span else {}
    whole_as_rest = answer(archive, status=206, headers={"ETag": '"one"'} | odd, length=None)
    server.answers = [answer(archive, cut=7000), whole_as_rest, answer(archive)]
    check(get())
    assert server.ranges() == [None, "bytes=7000-", None]


def test_a_part_that_is_longer_than_the_file_begins_anew(get, server, answer, archive, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(bytes(len(archive) + 1))
    server.answers = [answer(archive)]
    check(get())
    assert (tmp_path / "things.tar.gz.wrong").stat().st_size == len(archive) + 1


def test_a_range_that_the_server_cannot_give_begins_anew(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive, cut=7000), answer(status=416), answer(archive)]
    check(get())
    assert server.ranges() == [None, "bytes=7000-", None]


def test_the_right_size_and_the_wrong_content(get, server, answer, archive, tmp_path):
    wrong = archive[:-1] + bytes([archive[-1] ^ 1])
    server.answers = [answer(wrong)]
    with pytest.raises(DownloadError, match=r"expected MD5 \w{32}, found \w{32}; not used, kept aside as .*\.wrong"):
        get()
    assert names(tmp_path) == ["things.tar.gz.wrong"]
    assert (tmp_path / "things.tar.gz.wrong").read_bytes() == wrong
    assert len(server.requests) == 1


def test_each_checksum_counts(get, server, answer, archive, source_of, tmp_path):
    source = source_of(archive)
    source.checksums["sha256"] = "0" * 64
    server.answers = [answer(archive)]
    with pytest.raises(DownloadError, match="expected SHA256 0000"):
        get(source)
    assert names(tmp_path) == ["things.tar.gz.wrong"]


def test_another_size_is_refused_before_a_byte_is_written(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive + b"more")]
    with pytest.raises(DownloadError, match=f"expected {len(archive)} bytes, the server offers {len(archive) + 4}"):
        get()
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [None, -1])
def test_an_endless_body_is_cut_off(get, server, answer, archive, tmp_path, length):
    server.answers = [answer(archive, endless=True, length=length)]
    if length == -1:
        check(get())  # what follows the announced bytes is never read
        return
    with pytest.raises(DownloadError, match=f"expected {len(archive)} bytes, more are sent; kept aside"):
        get()
    assert names(tmp_path) == ["things.tar.gz.wrong"]
    assert (tmp_path / "things.tar.gz.wrong").stat().st_size <= len(archive)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_final_errors_are_not_tried_again(get, server, answer, status, tmp_path):
    server.answers = [answer(status=status)]
    with pytest.raises(DownloadError, match=f"the server answers {status} "):
        get()
    assert len(server.requests) == 1
    assert names(tmp_path) == []


# Hostile


def test_redirects_in_a_circle_end(get, server, answer):
    server.answers = [answer(status=302, headers={"Location": "/again"})]
    with pytest.raises(DownloadError, match=r"the server answers 302 .*infinite loop"):
        get()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/things.tar.gz", "gopher://127.0.0.1/"])
def test_a_redirect_out_of_the_web_is_refused(get, server, answer, target, tmp_path):
    server.answers = [answer(status=302, headers={"Location": target})]
    with pytest.raises(DownloadError, match=f"the server answers 302 .*{target}"):
        get()
    assert names(tmp_path) == []


def test_a_header_with_line_breaks_in_the_note_is_not_sent_on(get, server, answer, archive, tmp_path):
    (tmp_path / "things.tar.gz.part").write_bytes(archive[:100])
    (tmp_path / "things.tar.gz.part.json").write_text('{"ETag": "x\\r\\nHost: elsewhere"}')
    server.answers = [answer(archive)]
    check(get())
    assert server.requests[0][1].get("If-Range") is None


def test_a_right_checksum_does_not_make_an_archive_safe(get, server, answer, tarred, source_of, tmp_path):
    hostile = tarred({"things/a.bin": CONTENT, "../escaped": b"x"})
    server.answers = [answer(hostile)]
    with pytest.raises(DownloadError, match=r"refused, member '../escaped' would be written outside"):
        get(source_of(hostile))
    assert names(tmp_path) == ["things.tar.gz.wrong"]
    assert not (tmp_path.parent / "escaped").exists()


def test_what_does_not_load_is_not_used(get, server, answer, tarred, source_of, tmp_path):
    content = tarred({"things/a.bin": b"something else"})
    server.answers = [answer(content)]
    with pytest.raises(DownloadError, match=r"refused, .*not what it should be; not used, kept aside as"):
        get(source_of(content))
    assert names(tmp_path) == ["things.tar.gz.wrong"]


def test_an_archive_of_something_else(get, server, answer, tarred, source_of, tmp_path):
    content = tarred({"others/a.bin": CONTENT})
    server.answers = [answer(content)]
    with pytest.raises(DownloadError, match="refused, no folder things in it"):
        get(source_of(content))
    assert names(tmp_path) == ["things.tar.gz.wrong"]


# Mirrors, and archives that came by other means


@pytest.mark.parametrize(
    ("mirror", "asked"),
    [
        ("/some/where", "/some/where/things.tar.gz"),
        ("/some/where/", "/some/where/things.tar.gz"),
        ("/a/things.tar.gz", "/a/things.tar.gz"),
        ("/a/things.tar.gz?download=1", "/a/things.tar.gz?download=1"),
    ],
)
def test_what_is_asked_of_a_mirror(get, server, answer, archive, mirror, asked):
    server.answers = [answer(archive)]
    get(mirror=server.url + mirror)
    assert server.requests[0][0] == asked


@pytest.mark.parametrize(
    "mirror",
    ["", "example.org", "ftp://example.org", "http://", "http://u:p@h/", "http://h:99999/", "http://h/a b",
     "http://h/\n", "file://host/x", "file:relative", "http://h/?q=1", "http://[::1"],
)  # fmt: skip
def test_no_mirror(get, mirror, tmp_path):
    with pytest.raises(InputError, match=r"mirror = .*: expected an http, https or file address of things.tar.gz"):
        get(mirror=mirror)


def test_a_file_is_a_mirror_too(get, archive, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "things.tar.gz").write_bytes(archive)
    check(get(mirror=elsewhere.as_uri()))
    assert (elsewhere / "things.tar.gz").read_bytes() == archive


def test_a_file_of_another_size_or_none(get, archive, tmp_path):
    with pytest.raises(DownloadError, match="No such file"):
        get(mirror=tmp_path.as_uri() + "/elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "things.tar.gz").write_bytes(archive[1:])
    with pytest.raises(DownloadError, match=f"expected {len(archive)} bytes, found {len(archive) - 1}"):
        get(mirror=tmp_path.as_uri() + "/elsewhere")
    assert names(tmp_path) == ["elsewhere"]


def test_an_archive_that_lies_there_is_used_and_stays(get, server, archive, tmp_path):
    (tmp_path / "things.tar.gz").write_bytes(archive)
    check(get())
    assert server.requests == []
    assert names(tmp_path) == ["things", "things.tar.gz"]


def test_a_wrong_archive_that_lies_there_is_named_and_stays(get, server, answer, archive, tmp_path):
    (tmp_path / "things.tar.gz").write_bytes(archive[:50])
    server.answers = [answer(archive)]
    with pytest.warns(UserWarning, match=f"things.tar.gz: expected {len(archive)} bytes, found 50; not used"):
        check(get())
    assert (tmp_path / "things.tar.gz").read_bytes() == archive[:50]


# Room, and several at once


def test_too_little_room_is_told_before_a_byte_comes(get, server, source_of, archive, tmp_path):
    with pytest.raises(DownloadError, match=r"things needs up to 1000000000000 MB to fetch and unpack, [0-9]+ MB are"):
        get(source_of(archive, most_bytes=10**18))
    assert server.requests == [] and names(tmp_path) == []


def test_two_at_once_fetch_once(get, server, answer, archive, tmp_path):
    server.answers = [answer(archive, cut=5000, stall=True), answer(archive)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "things"] * 3
    assert server.ranges() == [None, "bytes=5000-"]
    assert names(tmp_path) == ["things"]


# The official archives


def test_unknown_datasets():
    with pytest.raises(InputError, match=r"dataset = 'digits': unknown \(allowed: cifar10, cifar100, stl10, tinyimage"):
        download("digits")


def test_sources_are_whole():
    assert list(SOURCES) == ["cifar10", "cifar100", "stl10", "tinyimagenet"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.filename.endswith((".tar.gz", ".zip"))
        assert {len(digits) for digits in source.checksums.values()} <= {32, 64}
        assert set(source.checksums) <= {"md5", "sha256"}
