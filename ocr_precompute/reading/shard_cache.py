"""Shards kept on this machine: whole ones, in a folder of so many bytes that processes share.

FOLDER/<shard key>.shard  a shard; it is whole, for it was written beside and renamed
FOLDER/<shard key>.part   one that is being fetched, locked by who does it
FOLDER/bytes              what all of that takes, or more; locked while room is made

Locks are of the kind that goes with its process, however that ends (flock), and nothing here
compares clocks but to guess what was not used for longest. So any file may be deleted at any time:
who has opened a shard reads on, and who has not fetches it again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.files import writing
from ocr_precompute.format.shard import Bytes, MappedFile, check_whole
from ocr_precompute.runtime.file_locks import check_locks, lock
from ocr_precompute.runtime.stages import count, stage, waiting
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import shard_name

log = logging.getLogger(__name__)

_OURS = re.compile(r"[0-9a-f]{64}\.(shard|part)")
_LOOK = 0.005  # seconds from look to look at a lock that another holds
_SPARE = 16  # a part of the bound that is made free at once, so that the folder is seldom listed
_REMEDY = "see to the disk, or name another cache or a smaller cache_size"


@dataclass(frozen=True)
class ShardCache:
    """A folder of shards, shared by all processes of this machine that name it.

    most: bytes of its files. patience: seconds to wait for who is fetching a shard.
    """

    folder: Path
    most: int
    patience: float = 60.0

    def __post_init__(self) -> None:
        """Raises StoreError if this system has not what it takes."""
        check_locks(f"{self.folder}: a cache", "read without one")

    def open(self, storage: Storage, key: str, *, doubted: bool = False) -> Bytes:
        """A shard, mapped; fetched in one request unless it is here.

        doubted: what is here does not read well: it is looked at, and fetched again if damaged.
        Raises StoreError if what comes is damaged twice, is larger than the cache, or cannot be
        written, and as `storage` does.
        """
        found = self._open(storage, key, doubted, self.patience)
        return found or _whole(storage, key)  # who was waited for has come to a stand

    def open_unless_fetched(self, storage: Storage, key: str) -> Bytes | None:
        """As `open`; None, without waiting, if somebody else is fetching it."""
        return self._open(storage, key, doubted=False, patience=0)

    def size(self, key: str) -> int | None:
        """Bytes of a shard that is here; None if it is not."""
        try:
            return self._path(key).stat().st_size
        except OSError:
            return None

    def _open(self, storage: Storage, key: str, doubted: bool, patience: float) -> Bytes | None:
        if not doubted and (kept := self._kept(key)):
            count("cache hits")
            return kept
        with writing(self.folder, _REMEDY):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._turn(key, patience) as part:
            if part is None:
                return None
            if (kept := self._kept(key)) and not (doubted and _is_damaged(kept, storage, key)):
                return kept
            count("cache misses")
            shard = _whole(storage, key)
            with writing(self.folder, _REMEDY):
                placed = self._place(part, key, shard)
            return (self._kept(key) or shard) if placed else shard

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.shard"

    def _kept(self, key: str) -> MappedFile | None:
        """A shard that is here, and is noted to have been used."""
        path = self._path(key)
        try:
            found = MappedFile(path)
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            os.utime(path)
        return found

    @contextlib.contextmanager
    def _turn(self, key: str, patience: float) -> Iterator[BinaryIO | None]:
        """The file to write a shard to, locked; None if another holds it for longer than that."""
        path, end = self.folder / f"{key}.part", time.monotonic() + patience
        while True:
            with writing(self.folder, _REMEDY):
                part = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW), "r+b")
            with part:
                if not _locked(part, end):
                    yield None
                    return
                if not _is_still(path, part):  # it became a shard, or was swept
                    continue
                try:
                    yield part
                finally:
                    if _is_still(path, part):
                        path.unlink(missing_ok=True)
                return

    def _place(self, part: BinaryIO, key: str, shard: Bytes) -> bool:
        """Write a shard and give it its name; not if the folder's account is out of reach."""
        if shard.size > self.most:
            raise StoreError(
                f"{self.folder}: cache_size is {self.most} bytes, and a shard takes {shard.size}; "
                "give it more"
            )
        with (self.folder / "bytes").open("a+b") as account:
            if not _locked(account, time.monotonic() + self.patience):
                return False
            self._make_room(account, shard.size)
            part.truncate(shard.size)  # so that whoever counts finds all of it
        part.write(shard.read(0, shard.size))
        part.flush()
        (self.folder / f"{key}.part").rename(self._path(key))
        return True

    def _make_room(self, account: BinaryIO, size: int) -> None:
        account.seek(0)
        said = account.read(20)
        taken = int(said) if said.isdigit() else self.most
        if taken + size > self.most:
            taken = self._sweep(size)
        account.truncate(0)
        account.write(b"%d" % (taken + size))

    def _sweep(self, size: int) -> int:
        """Delete what was not used for longest until there is room; gives the bytes that stay."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat()
                        found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        taken, gone = sum(size for _, size, _ in found), 0
        for _, each, path in sorted(found):
            if taken + size <= self.most - self.most // _SPARE:
                break
            if path.suffix == ".part" and _is_under_way(path):
                continue
            path.unlink(missing_ok=True)
            taken, gone = taken - each, gone + 1
        log.debug("%s: %d shards made room", self.folder, gone)
        return taken


def _whole(storage: Storage, key: str) -> Bytes:
    """A shard fetched; once more if it came damaged."""
    name = shard_name(key)
    for again in (True, False):
        try:
            with stage("fetch"):
                shard = storage.fetch(name)
            check_whole(shard)
            return shard
        except ValueError as error:
            if not again:
                raise StoreError(
                    f"{storage.at(name)}: is damaged, or not as this version writes shards "
                    f"({one_line(error)}); run `ocr-precompute verify`"
                ) from error
            log.warning("%s: came damaged (%s), fetched again", storage.at(name), one_line(error))
    raise AssertionError


def _is_damaged(kept: MappedFile, storage: Storage, key: str) -> bool:
    try:
        check_whole(kept)
    except ValueError as error:
        at = storage.at(shard_name(key))
        log.warning("%s: is damaged in the cache (%s), fetched again", at, one_line(error))
        return True
    return False


def _locked(file: BinaryIO, end: float) -> bool:
    """Lock a file for as long as it is open; false if another holds it until the end."""
    with waiting("cache"):
        while True:
            try:
                lock(file)
                return True
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(_LOOK)


def _is_still(path: Path, file: BinaryIO) -> bool:
    """Whether a name is that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _is_under_way(path: Path) -> bool:
    """Whether somebody holds the lock on a file."""
    try:
        with path.open("rb") as file:
            lock(file)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
