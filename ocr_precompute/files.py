"""Files that are complete or absent, temporary names that say whose they are, careful deletion."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ocr_precompute.errors import InputError, Problem, StoreError

_DAY = 86400  # seconds
_WINDOWS = os.name == "nt"
# Bytes as they are, and without waiting for a pipe; each system has one of the two flags.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"}
_TEMPORARY = re.compile(r"(.+)-([A-Za-z0-9._]+\.[0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}")


def safe_name(name: str) -> str:
    """A sample's name as part of a file's name: it chooses no folder, and is not too long."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-80:]


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as JSON, the same bytes every time."""
    return (json.dumps(document, indent=1) + "\n").encode()


def read_bounded(path: Path, most: int) -> bytes:
    """All of a regular file of at most that many bytes.

    Raises OSError for a larger one, and for a pipe, a device or a folder without waiting for it.
    """
    if not isinstance(path, Path):  # on another file system
        with path.open("rb") as file:
            return _at_most(file.read(most + 1), path, most)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # No more than that at once: room is made for all that is asked for.
        return _at_most(file.read(min(most, size) + 1), path, most)


def open_regular(path: Path) -> BinaryIO:
    """A file opened for reading.

    Raises OSError for anything but a regular file, without waiting for it.
    """
    descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _at_most(data: bytes, path: Path, most: int) -> bytes:
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is larger than {most} bytes", str(path))
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Write data beside path, flush it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(temporary_name(f".{path.name[:100]}"))
    try:
        beside.write_bytes(data)
        flush(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    flush(path.parent)


def write_new(files: Mapping[Path, bytes], *, force: bool) -> None:
    """Write files that are to replace none that somebody may have edited, unless that is forced.

    Raises InputError, and writes none, if any of them is there; StoreError if it cannot be written.
    """
    remedy = "exists; name another place, or replace it with --force"
    there = [path for path in files if os.path.lexists(path)]
    if there and not force:
        raise InputError([Problem("config", str(path), "", remedy) for path in there])
    for path, data in files.items():
        with writing(path, "name another place"):
            replace_file(path, data)


@contextlib.contextmanager
def new_folder(path: Path, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a folder beside path to fill, and have it take path's place once all is done.

    is_ours: whether what is at path may be replaced; an empty folder may. Of what was there, only
    files are deleted, and folders that are empty then. What killed processes left beside it goes.
    Raises StoreError if it may not be replaced; then, and if the work fails, path is as it was.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    _check_replaceable(path, is_ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_beside(path)
    beside, old = (path.with_name(temporary_name(f".{path.name[:100]}")) for _ in range(2))
    beside.mkdir()
    try:
        yield beside
        flush(beside)
        _check_replaceable(path, is_ours)
        if path.exists():
            path.rename(old)
        try:
            beside.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        flush(path.parent)
    finally:
        for leftover in (beside, old):
            _delete_shallow(leftover)


def _check_replaceable(path: Path, is_ours: Callable[[Path], bool]) -> None:
    if not os.path.lexists(path):
        return
    if path.is_dir() and (is_ours(path) or not any(path.iterdir())):
        return
    raise StoreError(f"{path}: exists and was not made here, or not only; name another place")


def _sweep_beside(path: Path) -> None:
    """Delete the folders that `new_folder` gave to processes of this machine that are gone."""
    wanted = (f".{path.name[:100]}", _machine())
    for each in path.parent.iterdir():
        match = _TEMPORARY.fullmatch(each.name)
        if match is None or (match[1], match[2]) != wanted or _is_running(int(match[3])):
            continue
        if each.is_dir() and not each.is_symlink():
            _delete_shallow(each)


def _delete_shallow(folder: Path) -> None:
    """Delete a folder's files, those of its folders, and what is empty then."""
    with contextlib.suppress(OSError):
        for path in [*folder.glob("*/*"), *folder.glob("*")]:
            with contextlib.suppress(OSError):
                path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        folder.rmdir()


@contextlib.contextmanager
def writing(path: Path, remedy: str = "") -> Iterator[None]:
    """Have an OSError within become a StoreError that names the path, and what to do."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise StoreError(f"{path}: {reason}{remedy and '; '}{remedy}") from error


def flush(path: Path) -> None:
    """fsync a file or folder. Windows has files alone for that, and they must be writable."""
    if _WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_litter(name: str) -> bool:
    """Whether systems and file servers put files of that name into any folder."""
    return name in _LITTER or name.startswith((".nfs", "._"))


def temporary_name(stem: str) -> str:
    """A name that no other process gives, and that says which one gave it."""
    return f"{stem}-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def temporary_stem(name: str) -> str | None:
    """What `temporary_name` made the name from; None if it did not make it."""
    match = _TEMPORARY.fullmatch(name)
    return match and match[1]


def is_abandoned(path: Path) -> bool:
    """Whether it is a file, and the process that gave it its temporary name is done with it.

    On this machine: it is gone. On others, and on Windows, where that cannot be told: nothing was
    written for a day.
    """
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    try:
        status = os.lstat(path)
    except OSError:  # somebody is at work there
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    if match[2] == _machine() and not _WINDOWS:
        return not _is_running(int(match[3]))
    return time.time() - status.st_mtime > _DAY


@lru_cache(maxsize=1)
def _machine() -> str:
    """This machine, since it was started, as far as process numbers are its own.

    Machines and containers may share a host name, and a container has its own process numbers.
    """
    host = socket.gethostname()
    seen = host
    with contextlib.suppress(OSError):  # not Linux
        seen += Path("/proc/sys/kernel/random/boot_id").read_text()
        seen += os.readlink("/proc/self/ns/pid")
    name = re.sub(r"[^A-Za-z0-9.]", "_", host)[:40]
    return f"{name}.{hashlib.sha256(seen.encode()).hexdigest()[:8]}"


def _is_running(process: int) -> bool:
    if _WINDOWS:  # where `kill` ends a process, whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # not Linux
        return True
    return state not in (b"Z", b"X")  # ended, and nobody has asked how
