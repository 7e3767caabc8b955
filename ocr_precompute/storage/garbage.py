"""What no split needs any more: `gc` deletes it, and nothing that this package did not make.

Digests that parts of a build have left are never named: they go as shards without a name do.

A training may have a split open that has been built anew meanwhile. So a shard is deleted only when
it has had no name for longer than a grace: `gc` remembers in unnamed/ since when it has known a
shard that no manifest names, and a build takes out what it is about to name. Where locks do not
reach other machines, that keeps `gc` from their builds too.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.files import temporary_stem
from ocr_precompute.format.manifest import is_key
from ocr_precompute.settings import is_split_name
from ocr_precompute.storage.locks import gc_lock
from ocr_precompute.storage.place import storage_at
from ocr_precompute.storage.seam import Found, Storage
from ocr_precompute.storage.store import (
    all_manifests,
    check_store,
    forget_scans,
    key_of,
    leftovers,
    manifest_name,
    no_split,
    note_name,
    read_manifest,
    scans_path,
    source_path,
)

log = logging.getLogger(__name__)

GRACE = timedelta(days=1)
_KINDS = "shards/", "parts/", "digests/"


@dataclass(frozen=True)
class Kept:
    """What no split names, and `gc` deletes from a time on (ISO 8601, UTC)."""

    key: str
    until: str


@dataclass(frozen=True)
class Garbage:
    """What `gc` deleted, or with dry_run would delete, and what it left.

    shards, parts, digests: keys. leftovers: what killed processes left, paths relative to the
    store. bytes: of all these. kept: what has no name and whose grace is not over. foreign: paths,
    relative to the store, of what this package did not make; it stays.
    """

    shards: tuple[str, ...]
    parts: tuple[str, ...]
    digests: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int
    kept: tuple[Kept, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True)
class _Unnamed:
    """Shards, parts and digests that no manifest names, by key.

    since: when that was first known. noted: of which it was known before. found: their files.
    foreign: what lies among them and is none of them, names in the store.
    """

    since: dict[str, datetime]
    noted: frozenset[str]
    found: dict[str, Found]
    foreign: tuple[str, ...]


def collect_garbage(
    store: str | Path | Storage,
    dry_run: bool = False,
    grace: timedelta = GRACE,
    now: datetime | None = None,
) -> Garbage:
    """Delete what has had no name for the grace, shards, parts of manifests and digests, and what
    killed processes left behind.

    store: see storage_at. now: the time to go by, with its time zone; the present by default.
    Raises StoreError, and deletes nothing, while a build runs, or if anything in splits/ cannot be
    read as a manifest.
    """
    storage = storage_at(store)
    check_store(storage)
    now = now or datetime.now(UTC)
    with _disk_errors(storage), contextlib.nullcontext() if dry_run else gc_lock(storage):
        _check_folders(storage)
        unnamed = _unnamed(storage, now)
        doomed = tuple(key for key, since in unnamed.since.items() if since + grace <= now)
        kept = {key: since for key, since in unnamed.since.items() if since + grace > now}
        left = _leftovers(storage)
        size = sum(os.lstat(path).st_size for path in left)
        size += sum(_size(storage, unnamed.found[key]) for key in doomed)
        foreign = (*unnamed.foreign, *_foreign_in_tmp(storage))
        if not dry_run:
            for path in left:
                storage.delete(str(path.relative_to(storage.home)))
            doomed = tuple(key for key in doomed if _delete_unnamed(storage, key, unnamed))
            _note(storage, kept)  # last: the disk may be full
    shards, parts, digests = (
        tuple(key for key in doomed if unnamed.found[key].name.startswith(kind)) for kind in _KINDS
    )
    return Garbage(
        shards=shards,
        parts=parts,
        digests=digests,
        leftovers=tuple(str(path.relative_to(storage.home)) for path in left),
        bytes=size,
        kept=tuple(
            Kept(key, (since + grace).isoformat(timespec="seconds")) for key, since in kept.items()
        ),
        foreign=foreign,
    )


@contextlib.contextmanager
def _disk_errors(storage: Storage) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.filename2 or error.filename or storage}: {error.strerror or error}; "
            "nothing more was deleted. Put that right and run it again"
        ) from error


def _check_folders(storage: Storage) -> None:
    """Raises StoreError for folders through which nothing may be deleted, or that say nothing."""
    folder = storage.folder
    if folder is None:
        return
    for name in ("shards", "parts", "digests", "tmp", "unnamed"):
        if (folder / name).is_symlink():
            raise StoreError(
                f"{folder / name}: is a symbolic link, and nothing is deleted through one; "
                "put the folder itself there"
            )
    if not (folder / "splits").is_dir():
        raise StoreError(
            f"{folder / 'splits'}: is not there, so it is not known which shards are named; "
            "nothing was deleted. Restore it, or build a split again"
        )


def _unnamed(storage: Storage, now: datetime) -> _Unnamed:
    named = {key for manifest in all_manifests(storage) for key in manifest.keys}
    notes = {each.name.rpartition("/")[2] for each in storage.list("unnamed/")}
    since: dict[str, datetime] = {}
    noted: set[str] = set()
    files: dict[str, Found] = {}
    foreign: list[str] = []
    for found in itertools.chain.from_iterable(map(storage.list, _KINDS)):
        key = key_of(found)
        if not key or not found.is_file or found.is_link:
            if not temporary_stem(found.name.rpartition("/")[2].lstrip(".")):
                foreign.append(found.name)
        elif key not in named:
            note = _noted(storage, key) if key in notes else None
            since[key] = min(note or now, now)
            files[key] = found
            if note:
                noted.add(key)
    return _Unnamed(since, frozenset(noted), files, tuple(foreign))


def _size(storage: Storage, found: Found) -> int:
    return storage.size(found.name) if found.size is None else found.size


def _noted(storage: Storage, key: str) -> datetime | None:
    """Since when it is known to have no name; None if that is not, or not sensibly, noted."""
    try:
        since = datetime.fromisoformat(storage.get(note_name(key), 99).decode())
    except (OSError, ValueError):
        return None
    return since if since.tzinfo else None


def _note(storage: Storage, since: dict[str, datetime]) -> None:
    """Note these, and forget all others."""
    for name in [each.name.rpartition("/")[2] for each in storage.list("unnamed/")]:
        if is_key(name) and name not in since:
            storage.delete(note_name(name))
    for key, date in since.items():
        if _noted(storage, key) != date:
            storage.put(note_name(key), date.isoformat().encode())


def _delete_unnamed(storage: Storage, key: str, unnamed: _Unnamed) -> bool:
    """Delete a file, unless a build on another machine has just taken the note of it back."""
    if key in unnamed.noted and _noted(storage, key) is None:
        return False
    storage.delete(note_name(key))
    storage.delete(unnamed.found[key].name)
    log.info("%s: deleted", unnamed.found[key].name)
    return True


def _leftovers(storage: Storage) -> list[Path]:
    folders = ("tmp", "splits", "parts", "digests", "sources", "unnamed", "")
    return [path for name in folders for path in leftovers(storage.home / name)]


def _foreign_in_tmp(storage: Storage) -> list[str]:
    if storage.folder is None:
        return []
    names = [(each, each.name.removeprefix("tmp/")) for each in storage.list("tmp/")]
    return [
        each.name
        for each, name in names
        if not (temporary_stem(name) is not None and each.is_file and not each.is_link)
    ]


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


def remove_split(store: str | Path | Storage, split: str, dry_run: bool = False) -> Removal:
    """Take a split away: its manifest and what it was built from. Its shards stay until `gc`.

    store: see storage_at.
    Raises StoreError if there is no such split, or it cannot be deleted.
    """
    storage = storage_at(store)
    check_store(storage)
    name = manifest_name(split)
    if not is_split_name(split) or all(each.name != name for each in storage.list("splits/")):
        raise no_split(storage, split)
    try:
        manifest = read_manifest(storage, split)
    except StoreError:
        manifest = None
    if not dry_run:
        with _disk_errors(storage):
            # The manifest last: as long as it is there, this can be done again.
            forget_scans(scans_path(storage, split))
            source_path(storage, split).unlink(missing_ok=True)
            storage.delete(name)
    if manifest is None:
        return Removal(split, 0, 0, readable=False)
    return Removal(split, len(manifest.shards), manifest.samples, readable=True)
