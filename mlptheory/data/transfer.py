"""Bytes from an address into a file: bounded, resumed where they were cut, tried again."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlptheory import __version__
from mlptheory.base.files import write_atomically

_BLOCK = 2**16
_ENOUGH_TO_GO_ON = 2**20  # a try that brought this many bytes does not count as failed
_SLOWEST = 100  # bytes a second, over the time that silence would be given


class DownloadError(OSError):
    """A download that came to nothing, by the fault of the server, the connection or the archive."""


class _CutError(Exception):
    """What another try may mend."""


class _ChangedError(_CutError):
    """What another try may mend that begins anew."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask it again.

    Attributes
    ----------
    timeout_s : float
        Silence, or next to nothing, for this long is a cut.
    tries : int
        In a row that bring less than 1 MiB.
    wait_s : float
        Before the second try; twice as long before each further one.
    """

    timeout_s: float = 30.0
    tries: int = 6
    wait_s: float = 1.0


PATIENCE = Patience()


def transfer(url: str, part: Path, size: int, *, patience: Patience, bar: Any) -> bool:
    """Bring a file to its size with bytes from an address.

    What the file holds already is kept where the server offers the rest of the same content, by ETag or date.

    Parameters
    ----------
    url : str
        http, https or file.
    part : Path
        NAME.part; a note beside it tells of which content it is a part.
    size : int
        Never more is written.
    patience : Patience
    bar : tqdm
        Told of bytes and of failures.

    Returns
    -------
    bool
        Whether it came in one piece; several may not be of the same content.

    Raises
    ------
    DownloadError
        If the server refuses, offers another size, or fails too often; what came is kept.
    OSError
        If the file cannot be written.
    """
    in_one_piece = False
    failures = 0
    while (before := _size(part)) < size:
        bar.n = before
        try:
            in_one_piece = _copy(url, part, size, patience.timeout_s, bar)
            continue
        except _CutError as error:
            reason = str(error)
            if isinstance(error, _ChangedError):
                discard(part)
        failures = 1 if _size(part) - before >= _ENOUGH_TO_GO_ON else failures + 1
        if failures >= patience.tries:
            came = _size(part)
            kept = f" with {came} of {size} bytes, which are kept: the same command goes on" if came else ""
            raise DownloadError(f"{url}: {reason}; gave up after {failures} tries{kept}")
        wait_s = patience.wait_s * 2 ** (failures - 1)
        bar.set_postfix_str(f"{reason}; again in {wait_s:.0f} s")
        bar.delay = 0  # it is shown now, and its line must be ended
        time.sleep(wait_s)
    return in_one_piece


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _copy(url: str, part: Path, size: int, timeout_s: float, bar: Any) -> bool:
    """Ask once for what is missing; return whether it began at the start."""
    if urlsplit(url).scheme == "file":
        _copy_local(Path(urllib.request.url2pathname(urlsplit(url).path)), part, size, bar)
        return True
    have = _size(part)
    known = _read_note(part)
    with _ask(url, have, known, timeout_s) as answer:
        validators = _validators(answer)
        goes_on = answer.status == 206
        if goes_on and not _continues(answer, have, size, known, validators):
            raise _ChangedError("the file changed between two tries")
        expected = size - have if goes_on else size
        announced = answer.headers.get("Content-Length")
        if announced is not None and announced.strip() != str(expected):
            raise DownloadError(f"{url}: expected {expected} bytes, the server offers {announced.strip()}")
        if not goes_on:
            part.write_bytes(b"")
            write_atomically(_note(part), json.dumps(validators))
            bar.n = 0
        bar.set_postfix_str("", refresh=False)
        _receive(answer, part, size, timeout_s, bar)
    return not goes_on


def _receive(answer: http.client.HTTPResponse, part: Path, size: int, timeout_s: float, bar: Any) -> None:
    left = size - _size(part)
    window_began, window_bytes = time.monotonic(), 0
    with part.open("ab") as file:
        while block := _read(answer):
            if len(block) > left:
                aside = keep_aside(part)
                raise DownloadError(f"{answer.url}: expected {size} bytes, more are sent; kept aside as {aside}")
            file.write(block)
            left -= len(block)
            bar.update(len(block))
            window_bytes += len(block)
            passed_s = time.monotonic() - window_began
            if passed_s > timeout_s:
                if left and window_bytes < _SLOWEST * passed_s:
                    raise _CutError(f"{window_bytes} bytes in {passed_s:.0f} s")
                window_began, window_bytes = time.monotonic(), 0
    if left:
        raise _CutError("the connection was cut")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_one_line(error)) from error


def _copy_local(origin: Path, part: Path, size: int, bar: Any) -> None:
    try:
        found = origin.stat().st_size
        opened = origin.open("rb")
    except OSError as error:
        raise DownloadError(f"{origin}: {error.strerror}") from error
    with opened:
        if found != size:
            raise DownloadError(f"{origin}: expected {size} bytes, found {found}")
        with part.open("wb") as file:
            shutil.copyfileobj(opened, file)
    bar.update(size - bar.n)


def _ask(url: str, have: int, known: dict[str, str | None], timeout_s: float) -> http.client.HTTPResponse:
    # Some servers compress what is compressed already; the size and the rest of a range are of the plain file.
    headers = {"User-Agent": f"mlptheory/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator := known.get("ETag") or known.get("Last-Modified"):
            headers["If-Range"] = validator
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            reason = f"{error.code} {_one_line(error.reason)}"
            if error.code == 416:
                raise _ChangedError("the file is shorter than what came of it") from None
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _CutError(f"the server answers {reason}") from None
            raise DownloadError(f"{url}: the server answers {reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"{url}: {_one_line(error.reason)}") from error
        raise _CutError(_one_line(error.reason)) from error
    except http.client.InvalidURL as error:
        raise DownloadError(f"{url}: {_one_line(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(_one_line(error)) from error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only, by the proxies that the environment names and no others."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(urllib.request.getproxies_environment()),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebOnly(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _WebOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(req.full_url, code, f"and leads to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(
    answer: http.client.HTTPResponse,
    have: int,
    size: int,
    known: dict[str, str | None],
    offered: dict[str, str | None],
) -> bool:
    """Return whether a partial answer is the rest of what is there."""
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (answer.headers.get("Content-Range") or "").strip())
    if not span or int(span[1]) != have or int(span[2]) != size - 1 or span[3] not in ("*", str(size)):
        return False
    return all(known.get(name) in (None, offered[name]) for name in offered if offered[name] is not None)


def _validators(answer: http.client.HTTPResponse) -> dict[str, str | None]:
    etag = answer.headers.get("ETag")
    # A weak tag promises the same meaning, not the same bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    return {"ETag": strong, "Last-Modified": answer.headers.get("Last-Modified")}


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, str | None]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(_note(part).read_text())
        if isinstance(known, dict):
            return {name: value for name, value in known.items() if isinstance(value, str) and value.isprintable()}
    return {}


def discard(part: Path) -> None:
    """Remove a partial file and its note."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def keep_aside(part: Path) -> Path:
    """Rename NAME.part, which is not what it should be, to NAME.wrong, in place of an older one."""
    aside = part.with_suffix(".wrong")
    part.replace(aside)
    discard(part)
    return aside


def _one_line(reason: object) -> str:
    reason = getattr(reason, "strerror", None) or reason
    return " ".join(str(reason).split()) or type(reason).__name__
