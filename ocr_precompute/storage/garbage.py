"""What no split needs any more: `gc` deletes it, and nothing that this package did not make.

A training may have a split open that has been built anew meanwhile. So a shard is deleted only when
it has had no name for longer than a grace: `gc` remembers in unnamed/ since when it has known a
shard that no manifest names, and a build takes out what it is about to name. Where locks do not
reach other machines, that keeps `gc` from their builds too.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.files import (
    flush,
    is_litter,
    read_bounded,
    temporary_stem,
)
from ocr_precompute.format.manifest import is_key
from ocr_precompute.settings import is_split_name
from ocr_precompute.storage.locks import gc_lock
from ocr_precompute.storage.store import (
    all_manifests,
    check_store,
    leftovers,
    manifest_path,
    no_split,
    part_files,
    read_manifest,
    shard_files,
    source_path,
)

log = logging.getLogger(__name__)

GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """A shard or part that no split names and `gc` deletes from a time on (ISO 8601, UTC)."""

    key: str
    until: str


@dataclass(frozen=True)
class Garbage:
    """What `gc` deleted, or with dry_run would delete, and what it left.

    shards, parts: keys. leftovers: what killed processes left, paths relative to the store. bytes:
    of all these. kept: shards and parts whose grace is not over. foreign: paths, relative to the
    store, of what this package did not make; it stays.
    """

    shards: tuple[str, ...]
    parts: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int
    kept: tuple[Kept, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True)
class _Unnamed:
    """Shards and parts that no manifest names, by key.

    since: when that was first known. noted: of which it was known before. paths: their files.
    foreign: what lies among them and is none of them, paths relative to the store.
    """

    since: dict[str, datetime]
    noted: frozenset[str]
    paths: dict[str, Path]
    foreign: tuple[str, ...]


def collect_garbage(
    store: Path,
    dry_run: bool = False,
    grace: timedelta = GRACE,
    now: datetime | None = None,
) -> Garbage:
    """Delete what has had no name for the grace, shards and parts of manifests, and what killed
    processes left behind.

    now: the time to go by, with its time zone; the present by default.
    Raises StoreError, and deletes nothing, while a build runs, or if anything in splits/ cannot be
    read as a manifest.
    """
    check_store(store)
    now = now or datetime.now(UTC)
    with _disk_errors(store), contextlib.nullcontext() if dry_run else gc_lock(store):
        _check_folders(store)
        unnamed = _unnamed(store, now)
        doomed = tuple(key for key, since in unnamed.since.items() if since + grace <= now)
        kept = {key: since for key, since in unnamed.since.items() if since + grace > now}
        left = _leftovers(store)
        size = sum(map(_size, [*left, *(unnamed.paths[key] for key in doomed)]))
        foreign = (*unnamed.foreign, *_foreign_in_tmp(store))
        if not dry_run:
            for path in left:
                _delete(path)
            doomed = tuple(key for key in doomed if _delete_unnamed(store, key, unnamed))
            _note(store, kept)  # last: the disk may be full
    parts = tuple(key for key in doomed if unnamed.paths[key].parent.name == "parts")
    return Garbage(
        shards=tuple(key for key in doomed if key not in parts),
        parts=parts,
        leftovers=tuple(str(path.relative_to(store)) for path in left),
        bytes=size,
        kept=tuple(
            Kept(key, (since + grace).isoformat(timespec="seconds")) for key, since in kept.items()
        ),
        foreign=foreign,
    )


@contextlib.contextmanager
def _disk_errors(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.filename or store}: {error.strerror or error}; nothing more was deleted. "
            "Put that right and run it again"
        ) from error


def _check_folders(store: Path) -> None:
    """Raises StoreError for folders through which nothing may be deleted, or that say nothing."""
    for name in ("shards", "parts", "tmp", "unnamed"):
        if (store / name).is_symlink():
            raise StoreError(
                f"{store / name}: is a symbolic link, and nothing is deleted through one; "
                "put the folder itself there"
            )
    if not (store / "splits").is_dir():
        raise StoreError(
            f"{store / 'splits'}: is not there, so it is not known which shards are named; nothing "
            "was deleted. Restore it, or build a split again"
        )


def _unnamed(store: Path, now: datetime) -> _Unnamed:
    named = {key for manifest in all_manifests(store) for key in manifest.keys}
    since: dict[str, datetime] = {}
    noted: set[str] = set()
    paths: dict[str, Path] = {}
    foreign: list[str] = []
    for key, entry in itertools.chain(shard_files(store), part_files(store)):
        if not key or not entry.is_file(follow_symlinks=False):
            if not is_litter(entry.name):
                foreign.append(os.path.relpath(entry.path, store))
        elif key not in named:
            note = _noted(store, key)
            since[key] = min(note or now, now)
            paths[key] = Path(entry.path)
            if note:
                noted.add(key)
    return _Unnamed(since, frozenset(noted), paths, tuple(foreign))


def _noted(store: Path, key: str) -> datetime | None:
    """Since when it is known to have no name; None if that is not, or not sensibly, noted."""
    try:
        since = datetime.fromisoformat(read_bounded(store / "unnamed" / key, 99).decode())
    except (OSError, ValueError):
        return None
    return since if since.tzinfo else None


def _note(store: Path, since: dict[str, datetime]) -> None:
    """Note these, and forget all others."""
    folder = store / "unnamed"
    folder.mkdir(exist_ok=True)
    for name in os.listdir(folder):
        if is_key(name) and name not in since:
            (folder / name).unlink(missing_ok=True)
    for key, date in since.items():
        if _noted(store, key) != date:
            (folder / key).unlink(missing_ok=True)
            with (folder / key).open("x") as file:  # cut short, it counts as not there
                file.write(date.isoformat())


def _delete_unnamed(store: Path, key: str, unnamed: _Unnamed) -> bool:
    """Delete a file, unless a build on another machine has just taken the note of it back."""
    try:
        (store / "unnamed" / key).unlink()
    except FileNotFoundError:
        if key in unnamed.noted:
            return False
    path = unnamed.paths[key]
    _delete(path)
    flush(path.parent)
    log.info("%s %s: deleted", "part" if path.parent.name == "parts" else "shard", key[:16])
    return True


def _delete(path: Path) -> None:
    """Delete what is out of use; what a file server holds on to is left to the next time."""
    try:
        path.unlink()
        log.debug("%s: deleted", path)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise


def _size(path: Path) -> int:
    return os.lstat(path).st_size


def _leftovers(store: Path) -> list[Path]:
    folders = ("tmp", "splits", "parts", "sources", "")
    return [path for name in folders for path in leftovers(store / name)]


def _foreign_in_tmp(store: Path) -> list[str]:
    try:
        names = sorted(os.listdir(store / "tmp"))
    except FileNotFoundError:
        return []
    return [f"tmp/{name}" for name in names if not (is_litter(name) or _is_ours(store, name))]


def _is_ours(store: Path, name: str) -> bool:
    """Whether something in tmp/ is a file under a temporary name."""
    path = store / "tmp" / name
    return temporary_stem(name) is not None and path.is_file() and not path.is_symlink()


@dataclass(frozen=True)
class Removal:
    """A split that was taken away, or with dry_run would be.

    shards, samples: what it named. readable: False for a damaged manifest, whose counts are not
    known (0).
    """

    split: str
    shards: int
    samples: int
    readable: bool


def remove_split(store: Path, split: str, dry_run: bool = False) -> Removal:
    """Take a split away: its manifest and its source record. Its shards stay until `gc`.

    Raises StoreError if there is no such split, or it cannot be deleted.
    """
    check_store(store)
    path = manifest_path(store, split)
    if not is_split_name(split) or not os.path.lexists(path):
        raise no_split(store, split)
    try:
        manifest = read_manifest(store, split)
    except StoreError:
        manifest = None
    if not dry_run:
        with _disk_errors(store):
            # The manifest last: as long as it is there, this can be done again.
            for file in (source_path(store, split), path):
                file.unlink(missing_ok=True)
            flush(path.parent)
    if manifest is None:
        return Removal(split, 0, 0, readable=False)
    return Removal(split, len(manifest.shards), manifest.samples, readable=True)
