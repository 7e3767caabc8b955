"""The digest cache: what is known of image files that were not touched since."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from ocr_precompute.remote_images import Stamp
from ocr_precompute.samples import ImageFile

log = logging.getLogger(__name__)

_PATHS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()  # as os.fsdecode has them
_CREATE = (
    "CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, stamp TEXT, digest BLOB,"
    " height INTEGER, width INTEGER, turned INTEGER)"
)
_SELECT = (
    "SELECT path, stamp, digest, height, width, turned FROM images"
    " WHERE typeof(path) = 'blob' AND typeof(stamp) = 'text'"
    " AND typeof(digest) = 'blob' AND length(digest) = 32"
    " AND typeof(height) = 'integer' AND height > 0 AND typeof(width) = 'integer' AND width > 0"
)


_BETWEEN = " AND path BETWEEN ? AND ?"
_TOLD = 2**16  # images in one piece of what another machine is told
_LARGEST = 2**31  # pixels of a side, as far as SQLite and arrays care

Row = tuple[bytes, str, bytes, int, int, bool]
"""Path, stamp, SHA-256, height and width of the image as displayed, whether that is turned."""


class DigestCache:
    """Digests and sizes of image files, by (path, size, mtime, ctime, inode) in a SQLite file; of
    those that are objects by (URL, size, ETag).

    What is known of all paths is held, or of those between two, if `load` was told so.

    A cache only: without it, or when it is damaged, busy, not writable or no file at all, files are
    read again.
    Use as a context manager; what was learnt is written when it closes. tell: given the same, in
    pieces that `take` takes on another machine, where all paths may be others.
    """

    # A file changed again within the file system's time resolution keeps its times; one that was
    # changed this recently is not remembered (as version control systems do).
    _SETTLED_NS = 2_000_000_000

    def __init__(self, path: Path, tell: Callable[[bytes], None] | None = None) -> None:
        self._path, self._tell = path, tell
        self._known: dict[str, tuple[str, ImageFile]] | None = None
        self._learnt: dict[str, tuple[str, ImageFile]] = {}

    def __enter__(self) -> DigestCache:
        return self

    def load(self, first: str | None = None, last: str | None = None) -> None:
        """Hold what is known of the paths from one to another, or of all; write what was learnt."""
        self._keep()
        self._known = {}
        if self._path.is_file():  # SQLite would wait for a pipe
            try:
                self._known = self._read(*(os.fsencode(p) for p in (first, last) if p is not None))
            except sqlite3.Error as error:
                log.info("%s: cannot be used (%s), images are read again", self._path, error)
        log.info("%s: %d images known", self._path, len(self._known))

    def _read(self, *ends: bytes) -> dict[str, tuple[str, ImageFile]]:
        """What the file remembers. A store may come from elsewhere: rows are checked, and steps and
        lengths are bounded, for `images` could be a view without an end.
        """
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        # A row has over 80 bytes and takes 30 steps.
        most_steps = 10_000 + self._path.stat().st_size
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2**16)
            database.set_progress_handler(lambda: 1, most_steps)  # 1: give up
            rows = database.execute(_SELECT + _BETWEEN * bool(ends), ends)
            return {
                path.decode(*_PATHS): (stamp, ImageFile(digest, (height, width), turned == 1))
                for path, stamp, digest, height, width, turned in rows
            }

    def __exit__(self, *_: object) -> None:
        self._keep()

    def _keep(self) -> None:
        """Write what was learnt."""
        # Paths as bytes: they need not be UTF-8, and text in SQLite must be.
        rows = [
            (os.fsencode(path), stamp, image.digest, *image.size, image.turned)
            for path, (stamp, image) in self._learnt.items()
        ]
        self._learnt = {}
        self._remember(rows)
        if self._tell:
            for start in range(0, len(rows), _TOLD):
                self._tell(_packed(rows[start : start + _TOLD]))

    def take(self, told: bytes) -> None:
        """Remember what another machine has learnt. Raises ValueError for what is not that."""
        self._remember(_unpacked(told))

    def _remember(self, rows: list[Row]) -> None:
        if not rows or (os.path.lexists(self._path) and not self._path.is_file()):
            return
        try:
            self._write(rows)
        except sqlite3.OperationalError as error:  # busy or not writable: learn it next time
            log.info("%s: cannot be written (%s)", self._path, error)
        except sqlite3.DatabaseError:  # damaged: start afresh
            self._path.unlink(missing_ok=True)

    def _write(self, rows: list[Row]) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            database.set_progress_handler(lambda: 1, 10_000 + 1000 * len(rows))
            database.execute("DROP TABLE IF EXISTS digests")  # of versions that kept no sizes
            database.execute(_CREATE)
            database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)

    def lookup(self, path: str, status: os.stat_result | Stamp) -> ImageFile | None:
        """What is known of the file, if it has not been touched since."""
        if self._known is None:
            self.load()
        known = (self._known or {}).get(path)
        return known[1] if known and known[0] == _stamp(status) else None

    def learn(self, path: str, status: os.stat_result | Stamp, image: ImageFile) -> None:
        """Remember what was found in bytes that were read after `status` was taken, or with it."""
        if isinstance(status, Stamp):
            if status.tag:
                self._learnt[path] = (_stamp(status), image)
        elif time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > self._SETTLED_NS:
            self._learnt[path] = (_stamp(status), image)


def _stamp(status: os.stat_result | Stamp) -> str:
    if isinstance(status, Stamp):
        return f"{status.size} {status.tag}"
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _packed(rows: Iterable[Row]) -> bytes:
    """A line of JSON for each row, paths as text."""
    lines = (
        json.dumps([path.decode(*_PATHS), stamp, digest.hex(), height, width, turned])
        for path, stamp, digest, height, width, turned in rows
    )
    return "\n".join(lines).encode()


def _unpacked(data: bytes) -> list[Row]:
    """Raises ValueError for what `_packed` does not make."""
    rows: list[Row] = []
    for line in data.decode().split("\n"):
        row = json.loads(line)
        if not isinstance(row, list) or list(map(type, row)) != [str, str, str, int, int, bool]:
            raise ValueError("a line that is no image")
        path, stamp, digest, height, width, turned = row
        known = bytes.fromhex(digest)
        if len(known) != 32 or not (0 < height < _LARGEST and 0 < width < _LARGEST):
            raise ValueError("an image that cannot be")
        rows.append((path.encode(*_PATHS), stamp, known, height, width, turned))
    return rows
