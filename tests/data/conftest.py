"""A server on loopback that answers as it is told, and archives to be had from it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlptheory.data.sources import Source


@dataclass
class Answer:
    """One answer to one request; by default the content, or what is asked of it, as a good server gives it."""

    content: bytes = b""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    length: int | None = -1  # what is announced, None for nothing, -1 for the truth
    cut: int | None = None  # bytes after which the connection is closed
    drip_s: float = 0.0  # a byte, then a pause
    stall: bool = False  # after `cut` bytes, silence
    endless: bool = False

    def start_for(self, headers) -> int:
        asked = headers.get("Range")
        condition = headers.get("If-Range")
        if not asked or not self.ranges or condition not in (None, *self.headers.values()):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server.told
        server.requests.append((self.path, dict(self.headers)))
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        self.close_connection = True
        with contextlib.suppress(OSError):
            self._give(answer, server)

    def _give(self, answer: Answer, server: Server) -> None:
        start = answer.start_for(self.headers)
        start = 0 if answer.status else start
        self.send_response(answer.status or (206 if start else 200))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        body = answer.content[start:]
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(answer.content) - 1}/{len(answer.content)}")
        if answer.length is not None:
            self.send_header("Content-Length", str(len(body) if answer.length == -1 else answer.length))
        self.send_header("Connection", "close")
        self.end_headers()
        sent = body if answer.cut is None else body[: answer.cut]
        if answer.drip_s:
            for byte in sent:
                if server.over.wait(answer.drip_s):
                    return
                self.wfile.write(bytes([byte]))
        else:
            self.wfile.write(sent)
        while answer.endless and not server.over.is_set():
            self.wfile.write(bytes(2**16))
        if answer.stall:
            self.wfile.flush()
            server.over.wait(30)

    def log_message(self, *args) -> None:
        pass


class Server:
    """Gives its answers in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.daemon_threads = True
        self.http.told = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def ranges(self) -> list[str | None]:
        """What was asked for, request by request."""
        return [headers.get("Range") for _, headers in self.requests]

    def stop(self) -> None:
        self.over.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def tarred() -> Callable[..., bytes]:
    """Make a gzipped tar of files by name, and of members as they are given."""

    def make(files: dict[str, bytes] | None = None, members: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
            for name, content in (files or {}).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for info in members:
                tar.addfile(info)
        return out.getvalue()

    return make


@pytest.fixture
def zipped() -> Callable[..., bytes]:
    """Make a zip of files by name or by ZipInfo."""

    def make(files: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        return out.getvalue()

    return make


@pytest.fixture
def source_of() -> Callable[..., Source]:
    """Describe an archive that is right by definition."""

    def describe(content: bytes, filename: str = "things.tar.gz", **changes) -> Source:
        fields = {
            "name": "things",
            "url": f"http://127.0.0.1:9/{filename}",
            "size": len(content),
            "checksums": {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha256")},
            "folder": "things",
            "most_bytes": 10**6,
            "most_members": 10_000,
        }
        return Source(**(fields | changes))

    return describe


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for what another thread or process brings about."""

    def wait(happened: Callable[[], object]) -> None:
        begun = time.monotonic()
        while not happened():
            assert time.monotonic() - begun < 60
            time.sleep(0.005)

    return wait
