"""The store on disk: layout, shard writer, manifest, locks and garbage collection.

STORE/
  zarr.json                 root group
  shards/<shard key>/       one Zarr v3 group a shard; immutable once it has its name
  splits/<split>.json       the manifest of a split
  sources/<split>.json      where the split was built from, for `verify` on this machine
  tmp/                      shards being written; nothing ever reads from here
  digests.sqlite            digest cache; may be deleted at any time
  lock                      held shared by builds, exclusively by `gc`
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr_precompute.config import Source, is_split_name
from ocr_precompute.errors import StoreError
from ocr_precompute.files import json_bytes, replace_file
from ocr_precompute.fingerprint import DigestCache
from ocr_precompute.manifest import Manifest, check_format_version
from ocr_precompute.shard import group_metadata, read_record

_ENTRIES = {"zarr.json", "shards", "splits", "sources", "tmp", "digests.sqlite", "lock"}


def shard_path(store: Path, key: str) -> Path:
    """Folder of a shard."""
    return store / "shards" / key


def find_rows(
    store: Path, wanted: set[bytes], first: Sequence[str]
) -> dict[bytes, tuple[str, int]]:
    """Where rows with the wanted geometry hashes lie already: hash -> (shard key, row).

    first: shard keys to look into before all others. A damaged shard offers nothing.
    """
    found: dict[bytes, tuple[str, int]] = {}
    for key in [*first, *sorted(shard_keys(store).difference(first))]:
        if len(found) == len(wanted):
            break
        try:
            rows = read_record(shard_path(store, key), "key")
        except (OSError, ValueError):
            continue
        for row, geometry in enumerate(rows):
            if geometry.tobytes() in wanted:
                found.setdefault(geometry.tobytes(), (key, row))
    return found


def shard_keys(store: Path) -> set[str]:
    """Keys of all finished shards, whether a manifest names them or not."""
    try:
        return {name for name in os.listdir(store / "shards") if len(name) == 64}
    except FileNotFoundError:
        return set()


def manifest_path(store: Path, split: str) -> Path:
    """The manifest file of a split."""
    return store / "splits" / f"{split}.json"


def read_manifest(store: Path, split: str) -> Manifest | None:
    """The published manifest of a split; None if there is none. Raises StoreError if damaged."""
    if not is_split_name(split):
        return None
    path = manifest_path(store, split)
    try:
        return Manifest.from_bytes(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def split_names(store: Path) -> list[str]:
    """Names of all published splits."""
    return sorted(path.stem for path in (store / "splits").glob("*.json"))


def publish_manifest(store: Path, manifest: Manifest) -> None:
    """Put the manifest in its place, in one step: readers see the old split or the new one."""
    replace_file(manifest_path(store, manifest.split), manifest.to_bytes())


def record_source(store: Path, split: str, source: Source) -> None:
    """Remember on this machine where a split was built from, and how that was read."""
    resolved = {
        "images": str(source.images.resolve()),
        "annotations": str(source.annotations.resolve()),
        "format": source.format,
        "rules": source.rules.model_dump() if source.rules else None,
    }
    data = json_bytes(resolved)
    path = store / "sources" / f"{split}.json"
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)


def recorded_source(store: Path, split: str) -> Source | None:
    """Where a split was built from, if this store remembers."""
    try:
        return Source.model_validate_json((store / "sources" / f"{split}.json").read_bytes())
    except (OSError, ValueError):
        return None


def digest_cache(store: Path) -> DigestCache:
    """The store's digest cache."""
    return DigestCache(store / "digests.sqlite")


def check_target(store: Path) -> None:
    """Raises StoreError unless a build may write there: a store of this version, or none yet."""
    if (store / "zarr.json").exists():
        check_store(store)
    elif store.is_dir() and (foreign := {n for n in os.listdir(store) if n[0] != "."} - _ENTRIES):
        raise StoreError(
            f"{store}: is not a store and not empty (it holds {min(foreign)!r}); "
            "name another --store"
        )


def create_store(store: Path) -> None:
    """Make the store's folders, or check that the store there is one this version can write."""
    check_target(store)
    if not (store / "zarr.json").exists():
        replace_file(store / "zarr.json", group_metadata())
    for folder in ("shards", "splits", "tmp"):
        (store / folder).mkdir(exist_ok=True)


def check_store(store: Path) -> None:
    """Raises StoreError unless there is a store at that path and this version reads it."""
    path = store / "zarr.json"
    try:
        document = json.loads(path.read_bytes())
        version = document["attributes"]["ocr_precompute"]["format_version"]
    except FileNotFoundError:
        raise StoreError(
            f"{store}: there is no store here; `ocr-precompute build` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path}: does not describe an ocr-precompute store; name another --store"
        ) from error
    check_format_version(version, path)


@contextlib.contextmanager
def build_lock(store: Path) -> Iterator[None]:
    """Held by a build: any number at once, but not while `gc` deletes.

    The first build to come removes what killed builds left in tmp/.
    """
    with _locked(store) as descriptor:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for leftover in (store / "tmp").iterdir():
                shutil.rmtree(leftover, ignore_errors=True)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[int]:
    descriptor = os.open(store / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock, as the end of the process does


@dataclass(frozen=True)
class Garbage:
    """What `gc` found: shards that no manifest names, leftovers of killed builds, and bytes."""

    shards: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int


def collect_garbage(store: Path, dry_run: bool) -> Garbage:
    """Delete shards that no manifest names and what killed builds left behind.

    Raises StoreError, and deletes nothing, while a build runs, or if any manifest is unreadable.
    """
    check_store(store)
    try:
        with _locked(store) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            manifests = [read_manifest(store, split) for split in split_names(store)]
            named = {shard.key for m in manifests if m is not None for shard in m.shards}
            unnamed = sorted(shard_keys(store) - named)
            leftovers = sorted(os.listdir(store / "tmp"))
            folders = [shard_path(store, key) for key in unnamed]
            folders += [store / "tmp" / name for name in leftovers]
            size = sum(folder_bytes(folder) for folder in folders)
            for folder in [] if dry_run else folders:
                # Out of its final name first: a half-deleted shard must not look finished.
                doomed = store / "tmp" / f"gc-{uuid.uuid4().hex}"
                os.rename(folder, doomed)
                shutil.rmtree(doomed)
            return Garbage(tuple(unnamed), tuple(leftovers), size)
    except BlockingIOError:
        raise StoreError(
            f"{store}: a build is running; nothing was deleted. Run gc again when it is done"
        ) from None


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, files in os.walk(folder)
        for name in files
    )
