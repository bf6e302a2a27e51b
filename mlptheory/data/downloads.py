"""Official archives fetched, checked, unpacked and loaded once, before anything sees them as data."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from mlptheory.base import DamagedFileError, InputError, invalid, unknown_name
from mlptheory.base.files import writable_folder
from mlptheory.data.archives import RefusedArchiveError, unpack
from mlptheory.data.catalog import SPLITS, data_roots, load
from mlptheory.data.imagenet import IMAGE_FOLDERS
from mlptheory.data.locks import alone
from mlptheory.data.sources import SOURCES, Source
from mlptheory.data.transfer import PATIENCE, DownloadError, Patience, discard, keep_aside, transfer

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Check = Callable[[Path], None]
"""Raises `InputError` unless a folder holds the whole dataset."""


def download(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    mirror: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a dataset's official archive and unpack it where `load` looks.

    What is there and whole stays as it is. A download that was cut goes on where it was. The archive's size and
    checksums must be the publisher's, and the unpacked folder must load, before it gets its name: killed at any
    moment, there is all of it or nothing. The archive is removed afterwards; a wrong one is kept aside as NAME.wrong.
    One that lies there already under the publisher's name is used, if right, and stays. Of several processes, one
    fetches and the others wait. Proxies are those of the environment (``https_proxy``, ``no_proxy``).

    Parameters
    ----------
    name : {"cifar10", "cifar100", "stl10", "tinyimagenet"}
        About 170 MB, 170 MB, 2.6 GB and 250 MB to fetch; as much again and more to unpack.
    root : path-like, optional
        Folder to put it in; by default ``$MLPTHEORY_DATA`` if that is set, else the platform's cache folder.
    mirror : str, optional
        Address of the archive, or of a folder that holds it under the publisher's file name: http, https, or ``file:``
        for a copy that came by other means. The checksums stay the publisher's.
    progress : bool
        Show bars.

    Returns
    -------
    Path
        The folder with the data.

    Raises
    ------
    InputError
        If the name or the mirror is no such thing, or `root` cannot be written.
    DownloadError
        If the server, the connection or the archive is at fault.
    OSError
        If the disk is full or the folder cannot be written.

    Examples
    --------
    >>> download("cifar11")
    Traceback (most recent call last):
    mlptheory.base.errors.InputError: dataset = 'cifar11': unknown; did you mean 'cifar10' or 'cifar100'? ...
    """
    return obtain(name, root, mirror=mirror, progress=progress)[0]


def obtain(
    name: str, root: str | os.PathLike[str] | None = None, *, mirror: str | None = None, progress: bool = True
) -> tuple[Path, bool]:
    """Do what `download` does; return the folder, and whether it was fetched now."""
    if name in IMAGE_FOLDERS:
        raise InputError(
            f"dataset = {name!r}: nobody may pass its images on; get them from {IMAGE_FOLDERS[name].home}, then type "
            "mlptheory data convert SOURCE, SOURCE being where they lie"
        )
    if name not in SOURCES:
        raise unknown_name("dataset", name, SOURCES)
    return fetch(SOURCES[name], root, check=_checked_by_loading(name), mirror=mirror, progress=progress)


def _find_whole(source: Source, root: str | os.PathLike[str] | None, check: Check) -> Path | None:
    """Return the folder that holds a dataset whole, in its archive's form or another; raise if it is only damaged."""
    damaged: InputError | None = None
    for name in (source.folder, *source.other_folders):
        folder = data_roots(root)[0][1] / name
        if folder.is_dir():
            try:
                check(folder)
                return folder
            except InputError as error:
                damaged = damaged or DamagedFileError(str(error))
    if damaged:
        raise damaged
    return None


def _checked_by_loading(name: str) -> Check:
    def check(folder: Path) -> None:
        for split in SPLITS:
            examples = load(name, split, folder).labels.bincount()
            if len(set(examples.tolist())) > 1:
                raise DamagedFileError(
                    f"{folder}: expected as many examples of each class in {split!r}, "
                    f"found from {int(examples.min())} to {int(examples.max())}"
                )

    return check


def fetch(
    source: Source,
    root: str | os.PathLike[str] | None,
    *,
    check: Check,
    mirror: str | None = None,
    progress: bool = True,
    patience: Patience = PATIENCE,
) -> tuple[Path, bool]:
    """Do what `obtain` does, for any archive and any check of what it unpacks to."""
    url = _address(source, mirror)
    label, place = data_roots(root)[0]
    place = writable_folder(label, place)
    with alone(place / f".{source.filename}.lock"):
        try:
            if whole := _find_whole(source, root, check):
                return whole, False
        except DamagedFileError as error:
            _move_damaged(place / source.folder, error)
        unpacking = place / f".{source.folder}.unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)
        part = place / f"{source.filename}.part"
        archive = _own_archive(place / source.filename, source)
        _require_room(place, source, part, fetched=archive is not None)
        try:
            _unpack_and_check(
                source, archive or _fetched_archive(source, url, part, patience, progress), unpacking, check, progress
            )
            (unpacking / source.folder).rename(place / source.folder)
        except (RefusedArchiveError, InputError) as error:
            aside = "" if archive else f", kept aside as {keep_aside(part)}"
            raise DownloadError(f"{archive or url}: refused, {error}; not used{aside}") from error
        finally:
            shutil.rmtree(unpacking, ignore_errors=True)
        discard(part)
    return place / source.folder, True


def _address(source: Source, mirror: str | None) -> str:
    if mirror is None:
        return source.url
    allowed = f"an http, https or file address of {source.filename} or of the folder that holds it"
    try:
        parts = urlsplit(mirror)
        port = parts.port
    except ValueError:
        raise invalid("mirror", mirror, allowed) from None
    remote = parts.scheme in ("http", "https") and parts.hostname and not parts.username and port != 0
    local = parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/")
    if not (remote or local) or parts.fragment or not mirror.isprintable() or " " in mirror:
        raise invalid("mirror", mirror, allowed)
    if parts.path.endswith("/" + source.filename):
        return mirror
    if parts.query:
        raise invalid("mirror", mirror, allowed)
    return f"{mirror.rstrip('/')}/{source.filename}"


def _move_damaged(folder: Path, error: InputError) -> None:
    """Move a damaged folder of the archive's own form out of the way; one of another form is in nobody's."""
    if not folder.is_dir():
        return
    aside = folder.with_name(folder.name + ".damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.damaged{number}")
    folder.rename(aside)
    warnings.warn(f"{folder.name}: damaged ({error}); set aside as {aside.name} and fetched again", stacklevel=4)


def _own_archive(archive: Path, source: Source) -> Path | None:
    """Return an archive that the user laid there, if it is right; it is theirs, and stays in any case."""
    if not archive.is_file():
        return None
    if fault := _fault(archive, source):
        warnings.warn(f"{archive}: {fault}; not used", stacklevel=4)
        return None
    return archive


def _require_room(place: Path, source: Source, part: Path, *, fetched: bool) -> None:
    there = source.size if fetched else part.stat().st_size if part.exists() else 0
    needed, free = source.size - there + source.most_bytes, shutil.disk_usage(place).free
    if free < needed:
        raise DownloadError(
            f"{place}: {source.name} needs up to {needed / 1e6:.0f} MB to fetch and unpack, "
            f"{free / 1e6:.0f} MB are free"
        )


def _fetched_archive(source: Source, url: str, part: Path, patience: Patience, progress: bool) -> Path:
    """Bring `part` to be the right archive, or raise."""
    for may_begin_anew in (True, False):
        # Shown once it lasts: a refusal stays one line.
        appearance = {"unit": "B", "unit_scale": True, "desc": source.filename, "delay": 0.5}
        with tqdm(total=source.size, disable=not progress, **appearance) as bar:
            try:
                in_one_piece = transfer(url, part, source.size, patience=patience, bar=bar)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    discard(part)
                raise
        fault = _fault(part, source)
        if not fault:
            return part
        aside = keep_aside(part)
        # Pieces may have been of different files, each of them right.
        if in_one_piece or not may_begin_anew:
            break
    raise DownloadError(f"{url}: {fault}; not used, kept aside as {aside}")


def _fault(archive: Path, source: Source) -> str | None:
    """Return what is wrong with an archive's bytes, if anything."""
    found = archive.stat().st_size
    if found != source.size:
        return f"expected {source.size} bytes, found {found}"
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in source.checksums}
    with archive.open("rb") as file:
        while block := file.read(2**20):
            for each in hashes.values():
                each.update(block)
    for name, expected in source.checksums.items():
        if hashes[name].hexdigest() != expected:
            return f"expected {name.upper()} {expected}, found {hashes[name].hexdigest()}"
    return None


def _unpack_and_check(source: Source, archive: Path, unpacking: Path, check: Check, progress: bool) -> None:
    unpacking.mkdir()
    unpack(
        archive,
        unpacking,
        zipped=source.filename.endswith(".zip"),
        most_bytes=source.most_bytes,
        most_members=source.most_members,
        progress=progress,
    )
    folder = unpacking / source.folder
    if not folder.is_dir():
        raise RefusedArchiveError(f"no folder {source.folder} in it")
    check(folder)
